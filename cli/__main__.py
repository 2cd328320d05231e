"""`python -m cli` is `mcr`."""

from cli.start import run

if __name__ == "__main__":
    run()
