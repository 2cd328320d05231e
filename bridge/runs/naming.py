"""Folders of runs that were not given one: `runs/TIME-SPACES-METHOD`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.runs.layout import ABOUT_FILE, METRICS_FILE, RUNS_FOLDER
from bridge.runs.record import goes_on, plan_hash, read_run
from features.errors import UserError
from features.files import explained


def named_folder(name: str) -> Path:
    """The folder of the run called `name`. Raises UserError if it is not the name of a folder."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
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

    resume: or that of a finished one. The folder is made, so that no other run takes it, and
    removed if the block refuses to train.
    """
    earlier = _earlier(plan, finished=resume)
    folder = earlier or _claimed(spaces, kind)
    try:
        yield folder
    except UserError:
        begun = any(folder.glob("checkpoint*")) or any(folder.rglob(METRICS_FILE))
        if earlier is None and not begun:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # other runs are in it
                RUNS_FOLDER.rmdir()
        raise


def _earlier(plan: Mapping[str, Any], *, finished: bool) -> Path | None:
    """The newest unfinished run of this plan, or finished one."""
    for folder in sorted(RUNS_FOLDER.glob("*/"), reverse=True):
        has_bridge = (folder / ABOUT_FILE).exists()
        if not has_bridge and goes_on(folder, plan):
            return folder
        if finished and has_bridge:
            with suppress(UserError):  # of another run's record
                found = read_run(folder)
                if found is not None and found.plan == plan_hash(plan):
                    return folder
    return None


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
