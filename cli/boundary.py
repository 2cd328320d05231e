"""Where errors become one sentence and an exit code.

0 done; 1 something the user can put right; 2 wrong usage; 3 done, but some items failed;
130 stopped with Ctrl-C.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from features.errors import UserError

USER_ERROR, SOME_FAILED, STOPPED = 1, 3, 130

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def guarded(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a command; print what the user can put right, without a traceback."""

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(USER_ERROR) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"error: {where}{error.strerror or error}", err=True)
            raise typer.Exit(USER_ERROR) from error
        except KeyboardInterrupt as error:
            typer.echo("stopped: run the same command again to continue", err=True)
            raise typer.Exit(STOPPED) from error

    return run
