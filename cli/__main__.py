"""`python -m cli` is `mcr`."""

from cli.main import run

if __name__ == "__main__":
    run()
