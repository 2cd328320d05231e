"""`python -m cli` is `mcr`."""

from cli.main import run

run()
