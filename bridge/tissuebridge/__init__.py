"""tissuebridge: from QuPath annotations to one network for regions and cells, and back. Read `pipeline` first."""

__version__ = "0.1.0"
