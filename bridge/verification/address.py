"""Checking indices that are not on the disk: is all as it was written?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bridge.verification.finding import Finding
from features.errors import UserError
from features.progress import SILENT, Progress
from features.search.backends import backend_of


def verify_address(place: str, *, progress: Progress = SILENT) -> Iterator[Finding]:
    """Read all of an index in Milvus. Raises UserError for an address that is none."""
    try:
        index, problem = backend_of(place).check(place, progress=progress)
    except UserError as error:
        yield Finding(place, "bad", str(error))
        return
    if problem is not None:
        yield Finding(str(index.path), "bad", problem)
        return
    where = Path(index.about["memory"])
    if not where.exists():
        yield Finding(
            str(index.path), "note",
            f"the memory {where} that it was built from is not there; it answers without it",
        )  # fmt: skip
    yield Finding(str(index.path), "good", f"index of {len(index)} items: all is as it was written")
