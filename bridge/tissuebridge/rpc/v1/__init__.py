"""Generated from protos/tissuebridge/rpc/v1 by protos/generate.py: change the .proto files, not these."""
