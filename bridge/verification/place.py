"""Checking whatever is at a path: a file, a bridge's folder, or all below a folder.

Everything is read once. What is found is told with what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from h5py import is_hdf5

from bridge.verification.bridges import verify_bridge, verify_training
from bridge.verification.finding import Finding
from bridge.verification.indices import verify_index
from bridge.verification.memories import verify_memory, verify_shards
from features.errors import UserError
from features.memories.sharded import shards_of
from features.progress import SILENT, Progress


def verify(path: Path, *, progress: Progress = SILENT) -> Iterator[Finding]:
    """Check a memory, an index, a bridge or training, or all of these below a folder.

    Raises UserError if there is nothing of the kind at `path`.
    """
    from bridge.runs.layout import ABOUT_FILE
    from bridge.training.checkpoint import MIXTURE_FILE, PROGRESS_FILE

    shards = shards_of(path)
    if not (path.exists() or shards):
        raise UserError(f"{path} does not exist: give a memory, an index, a bridge or a folder")
    if shards:
        yield from verify_shards(path, shards, progress)
    elif not path.is_dir():
        yield from _file(path, progress)
    elif (path / ABOUT_FILE).exists():
        yield from verify_bridge(path)
    elif any((path / name).exists() for name in (PROGRESS_FILE, MIXTURE_FILE)):
        yield from verify_training(path)
    else:
        yield from _folder(path, progress)


def _file(path: Path, progress: Progress) -> Iterator[Finding]:
    if path.suffix == ".faiss":
        yield from verify_index(path)
    elif path.suffix == ".h5" or is_hdf5(path):
        yield from verify_memory(path, progress)
    else:
        yield Finding(
            str(path), "bad",
            f"{path} is neither a memory (NAME.h5) nor an index (NAME.faiss): give one of these, a "
            "bridge's folder, or a folder of them",
        )  # fmt: skip


def _folder(path: Path, progress: Progress) -> Iterator[Finding]:
    from bridge.runs.layout import ABOUT_FILE

    bridges = sorted(file.parent for file in path.rglob(ABOUT_FILE))
    files = [
        file
        for suffix in (".h5", ".faiss")
        for file in sorted(path.rglob(f"*{suffix}"))
        if not file.name.endswith(".ids.h5")  # part of an index
        and not file.name.startswith(".")
    ]
    if not (bridges or files):
        raise UserError(
            f"{path} holds no memory, index or bridge: give the folder that `mcr extract` or "
            "`mcr train` wrote"
        )
    for file in files:
        yield from _file(file, progress)
    for folder in bridges:
        yield from verify_bridge(folder)
