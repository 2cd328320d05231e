"""Checking FAISS indices: all of their content, and their ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bridge.verification.finding import Finding, tried
from features.memories.sealing import as_column
from features.memories.unique import first_repetition


def verify_index(path: Path) -> Iterator[Finding]:
    """The files of an index, and whether they belong together."""
    from features.search.index import open_index
    from features.search.index_files import full_checksum

    index, failed = tried(path, lambda: open_index(path))
    yield from failed
    if index is None:
        return
    written = index.about.get("faiss_digest")
    if written is None:
        yield Finding(
            str(path), "note",
            "it was built before indices had a checksum of all of their content: build it again to "
            "have one",
        )  # fmt: skip
    elif full_checksum(path) != written:
        yield Finding(
            str(path), "bad",
            f"its content has checksum {full_checksum(path)}, it was written with {written}: "
            "rebuild it with `mcr index --overwrite`",
        )  # fmt: skip
        return
    repeated, failed = tried(path, lambda: first_repetition(as_column(index.table.ids)))
    yield from failed
    if repeated is not None:
        yield Finding(str(path), "bad", f"its id '{index.table.ids[repeated[0]]}' is there twice")
        return
    where = Path(index.about["memory"])
    if not where.exists():
        yield Finding(
            str(path), "note",
            f"the memory {where} that it was built from is not there; it answers without it",
        )  # fmt: skip
    yield Finding(str(path), "good", f"index of {len(index)} items: its files belong together")
