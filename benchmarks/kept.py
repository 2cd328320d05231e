"""Bridges that a benchmark trained, kept so that the same command continues after a stop."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def working_folder(chosen: Path | None) -> Iterator[Path]:
    """The folder that was chosen, made if it is not there; else one that is removed at the end."""
    if chosen is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    chosen.mkdir(parents=True, exist_ok=True)
    yield chosen


def place(work: Path, *names: object) -> Path:
    """A folder for what these names say."""
    return work / re.sub(r"[^a-z0-9.]+", "-", " ".join(map(str, names)).lower()).strip("-")
