"""FAISS as a back end of `features.search.backends`: files, memory-mapped."""

from __future__ import annotations

from pathlib import Path

from features.memories.memory import Memory
from features.progress import Progress
from features.search import building, index, index_files


def open_index(place: str, *, device: str) -> index.FaissIndex:
    """See `features.search.index`."""
    return index.open_index(place, device=device)


def build_index(
    memory: Memory, place: str, *, kind: str, overwrite: bool, progress: Progress
) -> index.FaissIndex:
    """See `features.search.building`."""
    return building.build_index(memory, place, kind=kind, overwrite=overwrite, progress=progress)


def check(place: str, *, progress: Progress) -> tuple[index.FaissIndex, str | None]:
    """The checksum of all of the file; one of an earlier version has none."""
    found = index.open_index(place)
    written = found.about.get("faiss_digest")
    with progress.task(f"verify {found.path.name}", 1, unit="files") as advance:
        now = index_files.full_checksum(found.path)
        advance(1)
    if written is None or now == written:
        return found, None
    return found, (
        f"its content has checksum {now}, it was written with {written}: rebuild it with "
        "`mcr index --overwrite`"
    )


def names(place: str) -> tuple[str, str]:
    """NAME, and NAME.faiss beside a memory NAME.h5."""
    return Path(place).stem, Path(place).name
