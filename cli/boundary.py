"""Where errors become one sentence and an exit code.

0 done; 1 something the user can put right; 2 wrong usage, such as a name that there is not; 3 done,
but some items failed; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import typer

from features.errors import ToldElsewhereError, UnknownNameError, UserError

USER_ERROR, WRONG_USAGE, SOME_FAILED, STOPPED = 1, 2, 3, 130

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
        try:
            if not together:
                _refuse_several()
            with _told_warnings():
                return command(*args, **kwargs)
        except ToldElsewhereError as error:
            raise typer.Exit(USER_ERROR) from error
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
            if error.details:
                typer.echo(error.details, err=True)
            code = WRONG_USAGE if isinstance(error, UnknownNameError) else USER_ERROR
            raise typer.Exit(code) from error
        except BrokenPipeError:
            raise  # `mcr ... | head`: the app ends quietly
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"error: {where}{error.strerror or error}", err=True)
            raise typer.Exit(USER_ERROR) from error
        except KeyboardInterrupt as error:
            typer.echo(f"stopped{': run the same command again to continue' * continues}", err=True)
            raise typer.Exit(STOPPED) from error

    return run


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
