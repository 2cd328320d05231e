"""Folders of runs that were not given one: `runs/TIME-SPACES-METHOD`."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.runs.layout import ABOUT_FILE, LOCK_FILE, METRICS_FILE, RUNS_FOLDER
from bridge.runs.locking import locked_run
from bridge.runs.record import goes_on, plan_hash, read_run
from features.errors import UserError
from features.files import explained

_HUSK_SECONDS = 60.0  # until a folder without anything in it is nobody's: longer than to begin


def is_plain_name(name: str) -> bool:
    """Whether a file or folder may be called so: no other folder, no option, not hidden."""
    return re.fullmatch(r"\w[\w.+-]*", name) is not None


def named_folder(name: str) -> Path:
    """The folder of the run called `name`. Raises UserError if it is not the name of a folder."""
    if not is_plain_name(name):
        raise UserError(
            f"a run cannot be called '{name}': use letters, digits, '.', '_', '+' and '-', or "
            "give a whole path with --out"
        )
    return RUNS_FOLDER / name


@contextmanager
def chosen_folder(
    plan: Mapping[str, Any], spaces: Sequence[str], kind: str, *, resume: bool
) -> Iterator[Path]:
    """A folder of its own in `runs`, or that of the unfinished run of the same plan.

    resume: or that of a finished one. The folder is made and locked, so that no other run takes
    it, and removed if the block refuses to train.
    """
    with ExitStack() as held:
        earlier = _earlier(plan, finished=resume, held=held)
        folder = earlier or held.enter_context(locked_run(_claimed(spaces, kind)))
        try:
            yield folder
        except UserError:
            begun = any(folder.glob("checkpoint*")) or any(folder.rglob(METRICS_FILE))
            if earlier is None and not begun:
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # other runs are in it
                    RUNS_FOLDER.rmdir()
            raise


def _earlier(plan: Mapping[str, Any], *, finished: bool, held: ExitStack) -> Path | None:
    """The newest unfinished run of this plan, or finished one, that no process trains.

    held: takes its lock.
    """
    for folder in sorted(RUNS_FOLDER.glob("*/"), reverse=True):
        _remove_husk(folder)
        if not _is_of(folder, plan, finished=finished):
            continue
        with ExitStack() as attempt, suppress(UserError):  # locked, or read-only
            attempt.enter_context(locked_run(folder))
            if _is_of(folder, plan, finished=finished):  # nobody finished it meanwhile
                held.push(attempt.pop_all())
                return folder
    return None


def _remove_husk(folder: Path) -> None:
    """Delete what a process left that was killed before it wrote anything into its folder."""
    with suppress(OSError, UserError):  # gone, not ours, or locked
        old = time.time() - folder.stat().st_mtime > _HUSK_SECONDS
        if old and not {one.name for one in folder.iterdir()} - {LOCK_FILE}:
            with locked_run(folder):
                pass  # whose end removes the lock
            folder.rmdir()


def _is_of(folder: Path, plan: Mapping[str, Any], *, finished: bool) -> bool:
    if not (folder / ABOUT_FILE).exists():
        return goes_on(folder, plan)
    with suppress(UserError):  # of another run's record
        found = read_run(folder)
        return finished and found is not None and found.plan == plan_hash(plan)
    return False


def _claimed(spaces: Sequence[str], kind: str) -> Path:
    words = [re.sub(r"[^\w.+-]+", "-", word).strip("-") for word in (*spaces, kind)]
    name = "-".join([datetime.now().strftime("%Y%m%d-%H%M%S"), *filter(None, words)])
    number = 1
    while True:
        folder = RUNS_FOLDER / (name if number == 1 else f"{name}-{number}")
        with explained(RUNS_FOLDER):
            RUNS_FOLDER.mkdir(exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        return folder
