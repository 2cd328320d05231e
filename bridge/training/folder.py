"""The folder that a bridge is trained into: whether it may be used, and what is left in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bridge.runs.layout import (
    ABOUT_FILE,
    LOCK_FILE,
    METRICS_FILE,
    PARTS_FOLDER,
    RUN_FILE,
    TRACKING_FOLDER,
)
from bridge.runs.locking import locked_run
from bridge.runs.log import log_line, read_log
from bridge.runs.record import goes_on
from bridge.training.checkpoint import (
    MIXTURE_FILE,
    PROGRESS_FILE,
    load_checkpoint,
    load_weights,
    remove_checkpoint,
    remove_parts,
)
from bridge.training.distributed import Ranks
from features.errors import UserError
from features.files import remove_leftovers, replacing


@contextmanager
def placed(
    out: str | Path | None, choose: Callable[[], AbstractContextManager[Path]], ranks: Ranks
) -> Iterator[Path]:
    """The folder `out`, or one that is chosen where there is none, made and locked.

    Of processes that train together the first one does so, and the others get its name.
    """
    with ExitStack() as held:
        folder = None
        if ranks.first:
            folder = held.enter_context(choose() if out is None else locked_run(Path(out)))
        yield Path(ranks.told(lambda: str(folder)))


def open_folder(out: Path, plan: dict[str, Any], *, overwrite: bool) -> bool:
    """Make `out`, which is locked, ready for a training of `plan`. Returns whether one goes on.

    Raises UserError if it holds something else.
    """
    remove_leftovers(out)  # one killed at its first file leaves nothing else
    if not _continues(out, plan, overwrite=overwrite):
        _prepare(out)
    if goes_on(out, plan):
        return True
    shutil.rmtree(out / TRACKING_FOLDER, ignore_errors=True)
    return False


def tidy_folder(out: Path) -> None:
    """Remove what only an unfinished training needs, and nothing else."""
    remove_checkpoint(out)
    remove_parts(out)
    remove_leftovers(out)


def part_folder(out: Path, name: str) -> Path:
    """Where a part of a mixture is trained."""
    return out / PARTS_FOLDER / name.replace(" ", "-")


def gather_metrics(out: Path, names: Iterable[str]) -> None:
    """Keep the lines of a mixture's parts, each with the name of its `part`."""
    lines = [
        log_line({"part": name, **entry})
        for name in names
        for entry in read_log(part_folder(out, name) / METRICS_FILE)
    ]
    if lines:
        with replacing(out / METRICS_FILE) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


def _continues(out: Path, plan: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether `out` holds an unfinished training of the same plan."""
    known = (ABOUT_FILE, METRICS_FILE, PROGRESS_FILE, MIXTURE_FILE, RUN_FILE)
    empty = all(path.name == LOCK_FILE for path in out.iterdir())
    if not (empty or overwrite or any((out / name).exists() for name in known)):
        raise UserError(
            f"{out} exists and is not a bridge's folder: choose another output, or pass "
            "--overwrite to write the bridge into it"
        )
    try:
        found = _unfinished(out)
    except UserError:
        if not overwrite:
            raise
        found = None
    if found is not None and found != json.loads(json.dumps(plan)) and not overwrite:
        raise UserError(
            f"{out} holds an unfinished training with other memories or settings: use the same "
            "to continue it, pass --overwrite, or choose another output"
        )
    return bool(found == json.loads(json.dumps(plan)))


def _unfinished(out: Path) -> dict[str, Any] | None:
    """The plan of what is under way in `out`. Raises UserError if it is damaged."""
    found = load_checkpoint(out)
    if found is not None:
        plan: dict[str, Any] = found[1]["plan"]
        return plan
    state = load_weights(out)
    for part in (out / PARTS_FOLDER).glob("*"):
        load_checkpoint(part)
    return None if state is None else state["plan"]


def _prepare(out: Path) -> None:
    """A folder without traces of another training; a bridge in it stays until the new is done."""
    tidy_folder(out)
    (out / METRICS_FILE).unlink(missing_ok=True)
