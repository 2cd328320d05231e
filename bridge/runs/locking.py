"""One training at a time in a run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.runs.layout import LOCK_FILE
from features.errors import UserError
from features.files import explained
from features.locks import take_lock


@contextmanager
def locked_run(folder: Path) -> Iterator[Path]:
    """The folder, made if it is not there, into which no other process trains during the block.

    Raises UserError if one does already, or it is a file.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file but a bridge is a folder: choose another output")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(
            folder / LOCK_FILE,
            f"another process trains into {folder}: wait for it, or choose another output",
        )
    with lock:
        try:
            yield folder
        finally:
            (folder / LOCK_FILE).unlink(missing_ok=True)
