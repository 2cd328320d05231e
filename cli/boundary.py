"""Where errors become one sentence and an exit code.

0 done; 1 something the user can put right; 2 wrong usage, such as a name that there is not or an
option of another form; 3 done, but some items failed; 130 stopped with Ctrl-C; 143 stopped with
SIGTERM.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import typer

from cli.stopping import Stop, stoppable
from features.errors import ToldElsewhereError, UsageError, UserError

USER_ERROR, WRONG_USAGE, SOME_FAILED = 1, 2, 3

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def guarded(
    command: Callable[Arguments, Result], *, continues: bool, together: bool = False
) -> Callable[Arguments, Result]:
    """Run a command; print what the user can put right, without a traceback.

    continues: whether the same command, run again, goes on from where it was stopped.
    together: whether several processes, that torchrun started, share the work.
    """

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with stoppable() as stop:
            try:
                with _told_warnings(), _told_errors(stop):
                    if not together:
                        _refuse_several()
                    return command(*args, **kwargs)
            except KeyboardInterrupt as error:
                told = ": run the same command again to continue" * continues
                typer.echo(f"stopped{told}", err=True)
                raise typer.Exit(stop.exit_code) from error

    return run


@contextmanager
def _told_errors(stop: Stop) -> Iterator[None]:
    """Tell what the user can put right in a sentence."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ToldElsewhereError):  # also of a signal, which reaches all of them
            raise typer.Exit(USER_ERROR if stop.came is None else stop.exit_code) from error
        if stop.came is not None:  # what a library made of the interruption of its import, say
            raise KeyboardInterrupt from error
        if isinstance(error, UserError):
            typer.echo(f"error: {error}", err=True)
            if error.details:
                typer.echo(error.details, err=True)
            code = WRONG_USAGE if isinstance(error, UsageError) else USER_ERROR
            raise typer.Exit(code) from error
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"error: {where}{error.strerror or error}", err=True)
            raise typer.Exit(USER_ERROR) from error
        raise  # also of `mcr ... | head`: the app ends quietly


def _refuse_several() -> None:
    """Raise UserError in one of several processes that torchrun started, and end the others."""
    several = int(os.environ.get("WORLD_SIZE") or 1)
    if several == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    if os.environ.get("RANK") != "0":
        raise ToldElsewhereError("the first process says it")
    raise UserError(
        f"torchrun started {several} processes of a command that needs one, as all but `mcr train` "
        "do: start it without torchrun"
    )


@contextmanager
def _told_warnings() -> Iterator[None]:
    """Tell this project's warnings as notes, once each; leave other libraries' as they are."""
    with warnings.catch_warnings():
        default = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if category.__module__.partition(".")[0] in ("features", "bridge"):
                typer.echo(f"note: {message}", err=True)
            else:
                default(message, category, *where, **more)

        warnings.showwarning = show
        yield
