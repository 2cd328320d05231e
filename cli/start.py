"""The console script. It imports nothing before it has said what Ctrl-C does."""

from __future__ import annotations

from cli.stopping import die_silently


def run() -> None:
    """Run `mcr`."""
    die_silently()
    from cli.main import run as run_commands

    run_commands()
