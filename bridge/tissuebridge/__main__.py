"""`python -m tissuebridge`: the command line, for programs that know which Python but not which command."""

from tissuebridge.cli import run

if __name__ == "__main__":
    run()
