"""What work will take before it is done: bytes on disk, bytes of memory, seconds.

Sizes are counted; times come from a second of the real work on a small part, on this machine and
as busy as it is now. Nothing is written.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import ItemError, UserError
from features.memories.memory import MemoryHeader, StoredDtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.encoders import Encoder
    from features.extraction.items import Item, Source
    from features.space import Modality

MEASURED_SECONDS = 1.0
MOST_MEASURED, CHUNK, WARM_UP = 256, 16, 4  # items
SAMPLE = 4096  # rows of an index that is built to measure it
_OFFSET = 8  # bytes of a string's place in a column
_FLOAT = 4


@dataclass(frozen=True)
class Estimate:
    """What a step will take.

    items: that it goes through. disk: bytes of its output; peak: more than those while it runs.
    memory: bytes in RAM or on the device. seconds: None if they cannot be told. how: where the
    seconds come from. dimension: of the embeddings that it makes, 0 if it makes none.
    """

    items: int
    disk: int
    memory: int
    seconds: float | None
    how: str
    peak: int = 0
    dimension: int = 0


@dataclass(frozen=True)
class Rate:
    """How fast items are embedded. how: where that is known from. memory: bytes in use."""

    items_per_second: float
    how: str
    memory: int = 0


def memory_bytes(items: Sequence[Item], header: MemoryHeader) -> int:
    """Bytes of a memory of these items: embeddings, ids, items where they differ, and labels."""
    columns = [[item.id for item in items]]
    if any(item.id != item.value for item in items):
        columns.append([item.value for item in items])
    if items and all(item.label is not None for item in items):
        columns.append([item.label or "" for item in items])
    strings = sum(
        len(one.encode(errors="surrogatepass")) + _OFFSET for column in columns for one in column
    )
    return len(items) * header.row_dtype().itemsize + strings


def measure_embedding(source: Source, encoder: Encoder, modality: Modality) -> Rate:
    """Embed some items, evenly spread over the source, for about a second.

    Raises UserError if none of them can be read.
    """
    load = encoder.input(modality)
    step = max(1, len(source.items) // MOST_MEASURED)
    chosen = source.items[::step][:MOST_MEASURED]
    _embed(source, encoder, modality, load, chosen[:WARM_UP])
    done, started = 0, time.perf_counter()
    for start in range(0, len(chosen), CHUNK):
        done += _embed(source, encoder, modality, load, chosen[start : start + CHUNK])
        if time.perf_counter() - started > MEASURED_SECONDS:
            break
    if not done:
        raise UserError("none of the items that were tried could be read: check the source")
    return Rate(done / (time.perf_counter() - started), f"{done} items were embedded", _in_use())


def _embed(
    source: Source, encoder: Encoder, modality: Modality, load: Any, items: Sequence[Item]
) -> int:
    arrays = []
    for item in items:
        try:
            arrays.append(load(source.load_argument(item)))
        except ItemError:
            continue  # extraction lists it
    if arrays:
        encoder.encode(arrays, modality)
    return len(arrays)


def estimate_extraction(
    source: Source,
    modality: Modality,
    *,
    space: str,
    dimension: int,
    dtype: StoredDtype = "float16",
    local_length: int = 0,
    done: int = 0,
    rate: Rate | None = None,
    unknown: str = "",
) -> Estimate:
    """What an extraction takes.

    done: items that an earlier run has embedded. rate: None if it is not known, and then `unknown`
    says why.
    """
    header = MemoryHeader(space, modality, dimension, dtype, local_length=local_length)
    disk, items = memory_bytes(source.items, header), len(source.items)
    rows = items * header.row_dtype().itemsize
    return Estimate(
        items,
        disk,
        rate.memory if rate else 0,
        (items - done) / rate.items_per_second if rate else None,
        f"{rate.how}, {rate.items_per_second:,.0f} a second" if rate else unknown,
        peak=rows,  # rows are kept beside the memory until it is written
        dimension=dimension,
    )


def items_done(out: Path, batch_size: int, items: int) -> int:
    """Items that an unfinished extraction into `out` has embedded already."""
    journal = out.with_name(f"{out.name}.partial") / "journal.jsonl"
    if not journal.exists():
        return 0
    with journal.open("rb") as lines:
        return min(items, batch_size * sum(1 for _ in lines))


def estimate_index(
    kind: str, items: int, dimension: int, rows: NDArray[np.float32] | None = None
) -> Estimate:
    """What an index takes, by building one of a sample.

    rows: a sample of the memory, unit; random ones if there is none yet. Raises UserError for a
    factory string that FAISS does not know.
    """
    from features.search.building import trial_index

    count = min(items, SAMPLE)
    if rows is None:
        rows = np.random.default_rng(0).standard_normal((count, dimension), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    trial_index(kind, rows[: min(count, 64)], items=items)  # what is slow only the first time
    started = time.perf_counter()
    size, factory = trial_index(kind, rows, items=items)
    seconds = (time.perf_counter() - started) * _growth(factory, len(rows), items)
    disk = round(size / len(rows) * items)
    how = f"{len(rows):,} rows were indexed as {factory}"
    return Estimate(items, disk, disk + items * dimension * _FLOAT // 8, seconds, how)


def _growth(factory: str, sample: int, items: int) -> float:
    """How many times longer than a sample all items take: graphs by n log n, cells by n^1.5."""
    ratio = items / sample
    if "HNSW" in factory:
        return ratio * math.log(max(2, items)) / math.log(max(2, sample))
    return ratio**1.5 if "IVF" in factory else ratio


def _in_use() -> int:
    """Bytes of RAM that this process holds now."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
