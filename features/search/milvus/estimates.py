"""What an index in Milvus would take, told beforehand; nothing is written where it would be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from features.extraction.estimates import Estimate
from features.memories.memory import Columns, Memory
from features.memories.writing import write_memory
from features.progress import SILENT
from features.search.milvus.building import build, index_of
from features.search.milvus.collection import Collection
from features.search.milvus.connection import connect
from features.search.milvus.place import Place

SAMPLE = 2000  # rows
_FLOAT = 4  # bytes


def estimate(memory: Memory, place: Place, kind: str) -> Estimate:
    """What `mcr index` would make. place: a local file, or a server, which is not asked.

    Raises UserError for a kind that there is not, or if milvus-lite is not installed for a local
    file, of which an index over the first rows is built elsewhere and measured.
    """
    factory, _ = index_of(kind, len(memory), local=place.local is not None)
    vectors = len(memory) * memory.dimension * _FLOAT
    if place.local is None:
        how = (
            f"{vectors / 1e6:,.1f} MB of vectors would be sent, to be indexed as {factory}; what a "
            "server takes for them cannot be told from here"
        )
        return Estimate(len(memory), 0, 0, None, how)
    rows = min(SAMPLE, len(memory))
    with TemporaryDirectory(prefix="mcr-") as folder:
        part = _first(memory, rows, Path(folder) / "sample.h5")
        _measured(part, folder, kind)  # what is slow only the first time
        size, seconds = _measured(part, folder, kind)
    how = f"{rows:,} rows were indexed as {factory}"
    grown = len(memory) / rows
    return Estimate(len(memory), round(size * grown), 2 * vectors, seconds * grown, how)


def _first(memory: Memory, rows: int, path: Path) -> Memory:
    """The first rows as a memory, with all that is told of them."""
    columns = memory.columns
    part = Columns(
        columns.ids[:rows],
        None if columns.items is None else columns.items[:rows],
        None if columns.labels is None else columns.labels[:rows],
        {name: column[:rows] for name, column in columns.metadata.items()},
    )
    header = replace(memory.header, local_length=0)
    return write_memory(path, header, part, [memory.read(0, rows)], checked=True, synced=False)


def _measured(memory: Memory, folder: str, kind: str) -> tuple[int, float]:
    """Bytes and seconds of an index in a database of its own."""
    with TemporaryDirectory(dir=folder) as here, _opened(Path(here) / "trial.db") as target:
        started = time.perf_counter()
        build(memory, target, kind=kind, overwrite=False, progress=SILENT)
        seconds = time.perf_counter() - started
        size = sum(one.stat().st_size for one in Path(here).rglob("*") if one.is_file())
    return size, seconds


@contextmanager
def _opened(path: Path) -> Iterator[Collection]:
    place = Place(str(path), "trial")
    client = connect(place)
    try:
        yield Collection(client, place)
    finally:
        client.close()
