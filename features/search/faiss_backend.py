"""FAISS as a back end of `features.search.backends`: files, memory-mapped."""

from __future__ import annotations

from pathlib import Path

from features.memories.memory import Memory
from features.progress import Progress
from features.search import building, index


def open_index(place: str, *, device: str) -> index.FaissIndex:
    """See `features.search.index`."""
    return index.open_index(place, device=device)


def build_index(
    memory: Memory, place: str, *, kind: str, overwrite: bool, progress: Progress
) -> index.FaissIndex:
    """See `features.search.building`."""
    return building.build_index(memory, place, kind=kind, overwrite=overwrite, progress=progress)


def names(place: str) -> tuple[str, str]:
    """NAME, and NAME.faiss beside a memory NAME.h5."""
    return Path(place).stem, Path(place).name
