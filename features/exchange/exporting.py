"""A memory into the file of another tool.

`.npy`, `.fbin` and `.f16bin` have no place for ids: these go into `NAME.ids.txt`, one a line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UnknownNameError, UserError
from features.exchange.atlas import THUMBNAIL, write_atlas
from features.exchange.neighbors import Neighbors, exact_neighbors, write_ibin
from features.exchange.stored import Stored, has_place
from features.exchange.write_files import (
    holds_ids,
    ids_path,
    write_big_ann,
    write_npy,
    write_npz,
    write_safetensors,
)
from features.exchange.write_tables import SHARD_ROWS, write_clip_retrieval, write_parquet
from features.files import refuse_existing, replacing
from features.hdf5_files import writing_hdf5
from features.memories.strings import write_strings
from features.plane import PROJECTIONS
from features.progress import SILENT, Progress

if TYPE_CHECKING:
    from features.memories.memory import Memory

NEIGHBORS = 100  # of every query
LOCAL = "local embeddings"  # no format has a place for them


@dataclass(frozen=True)
class Format:
    """How a kind of file is written.

    dtype: the one it always has, or None if it may have the memory's. suffixes: what it is
    chosen by. ids_beside: whether NAME.ids.txt is written. keeps: columns besides the ids.
    queries: whether it can hold neighbours of queries.
    """

    write: Callable[..., None]
    suffixes: tuple[str, ...]
    dtype: str | None = None
    ids_beside: bool = False
    keeps: bool = True
    queries: bool = False


def write_ann_benchmarks(
    stored: Stored, path: Path, *, queries: Memory | None = None, neighbors: int | None = None
) -> None:
    """An HDF5 file with `train`; with queries also `test`, `neighbors` and `distances`.

    The columns lie beside them as in a memory, where ann-benchmarks does not look.
    """
    found = (
        None if queries is None else exact_neighbors(queries, stored.memory, neighbors or NEIGHBORS)
    )
    with replacing(path) as temporary, writing_hdf5(temporary) as (file, _):
        file.attrs.update({"distance": "angular", "point_type": "float", **stored.about})
        train = file.create_dataset("train", stored.shape, stored.dtype, track_times=False)
        start = 0
        for block in stored.blocks():
            train[start : start + len(block)] = block
            start += len(block)
        for name, column in stored.columns.items():
            write_strings(file, name, column)
        if queries is not None and found is not None:
            test = np.asarray(queries.embeddings, dtype=stored.dtype)
            for name, array in (
                ("test", test),
                ("neighbors", found.rows),
                ("distances", found.distances),
            ):
                file.create_dataset(name, data=array, track_times=False)


def write_neighbors(
    stored: Stored, path: Path, *, queries: Memory | None = None, neighbors: int | None = None
) -> None:
    """A .ibin file: for every query the numbers of the nearest rows."""
    if queries is None:
        raise UserError(f"{path} holds neighbours of queries: name their memory with --queries")
    found: Neighbors = exact_neighbors(queries, stored.memory, neighbors or NEIGHBORS)
    with replacing(path) as temporary:
        write_ibin(found, temporary)
    stored.advance(stored.shape[0])


FORMATS = {
    "npy": Format(write_npy, (".npy",), ids_beside=True, keeps=False),
    "npz": Format(write_npz, (".npz",)),
    "parquet": Format(write_parquet, (".parquet",)),
    "atlas": Format(write_atlas, (".parquet",), "float32"),  # parquet comes first by suffix
    "safetensors": Format(write_safetensors, (".safetensors",)),
    "clip-retrieval": Format(write_clip_retrieval, ("",)),
    "ann-benchmarks": Format(write_ann_benchmarks, (".hdf5", ".h5"), "float32", queries=True),
    "fbin": Format(write_big_ann, (".fbin",), "float32", ids_beside=True, keeps=False),
    "f16bin": Format(write_big_ann, (".f16bin",), "float16", ids_beside=True, keeps=False),
    "ibin": Format(write_neighbors, (".ibin",), keeps=False, queries=True),
}


def format_of(out: Path, name: str | None = None) -> str:
    """The format called `name`, or the one of the suffix; a folder is clip-retrieval's.

    Raises UserError if there is none.
    """
    if name is None:
        suffix = out.suffix.lower()
        name = next((n for n, one in FORMATS.items() if suffix in one.suffixes), None)
    if name not in FORMATS:
        raise UnknownNameError(
            f"{name or out} is no format that can be written: use one of {', '.join(FORMATS)} "
            "with --format"
        )
    return name


def export_memory(
    memory: Memory,
    out: str | Path,
    *,
    format: str | None = None,
    dtype: str | None = None,
    queries: Memory | None = None,
    neighbors: int | None = None,
    shard_rows: int = SHARD_ROWS,
    projection: str | None = None,
    thumbnails: int | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> list[str]:
    """Write a memory as another tool's file; returns what the file has no place for.

    format: one of `FORMATS`, chosen by the suffix unless told. dtype: float16 or float32, the
    memory's unless told or the format has but one. queries: of ann-benchmarks and ibin, the
    memory whose `neighbors` exact nearest rows are written (100 unless told). shard_rows: of
    clip-retrieval. projection (pca unless told, or umap) and thumbnails (longer side in pixels, 0
    for none): of atlas, which also takes `neighbors`, of every item (none unless told).
    Raises UserError if the output exists or cannot hold the memory.
    """
    out = Path(out)
    name = format_of(out, format)
    kind = FORMATS[name]
    options = _options(name, queries, neighbors, shard_rows)
    options |= _atlas_options(name, neighbors, projection, thumbnails)
    stored_dtype = np.dtype(_dtype(memory, name, dtype))
    _refuse(out, name, memory, queries, overwrite=overwrite)
    with progress.task(f"export {out.name}", len(memory)) as advance:
        kind.write(Stored(memory, stored_dtype, advance), out, **options)
    lost = {
        "labels": not kind.keeps and memory.labels is not None,
        "items": not kind.keeps and memory.items is not memory.ids,
        "columns": not all(kind.keeps and has_place(one) for one in memory.metadata),
        LOCAL: memory.header.local_length > 0,
    }
    return [what for what, is_lost in lost.items() if is_lost]


def _refuse(
    out: Path, name: str, memory: Memory, queries: Memory | None, *, overwrite: bool
) -> None:
    for one in (memory, queries):
        held = () if one is None else one.parts
        if out.exists() and any(out.samefile(file.path) for file in held):
            raise UserError(f"{out} is the memory itself: choose another output")
    if name == "clip-retrieval":
        if out.exists() and not (overwrite and out.is_dir()):
            raise UserError(f"{out} exists: pass --overwrite or choose another output")
        return
    refuse_existing(out, overwrite=overwrite)
    if FORMATS[name].ids_beside:
        ids = ids_path(out)
        # A process that was killed after it had written the ids leaves these very ids.
        refuse_existing(ids, overwrite=overwrite or holds_ids(ids, memory))


def _atlas_options(
    name: str, neighbors: int | None, projection: str | None, thumbnails: int | None
) -> dict[str, Any]:
    if name == "atlas":
        return {
            "neighbors": neighbors,
            "projection": projection or PROJECTIONS[0],
            "thumbnails": THUMBNAIL if thumbnails is None else thumbnails,
        }
    for option, value in (("projection", projection), ("thumbnails", thumbnails)):
        if value is not None:
            raise UserError(f"{name} has no place for --{option}: use --format atlas")
    return {}


def _options(
    name: str, queries: Memory | None, neighbors: int | None, shard_rows: int
) -> dict[str, Any]:
    if FORMATS[name].queries:
        return {"queries": queries, "neighbors": neighbors}
    if queries is not None:
        able = ", ".join(other for other, one in FORMATS.items() if one.queries)
        raise UserError(f"{name} has no place for neighbours of queries: use one of {able}")
    return {"shard_rows": shard_rows} if name == "clip-retrieval" else {}


def _dtype(memory: Memory, name: str, dtype: str | None) -> str:
    only = FORMATS[name].dtype
    if dtype not in (None, "float16", "float32"):
        raise UserError(f"embeddings are exported as float16 or float32, not '{dtype}'")
    if name == "ann-benchmarks":
        return dtype or "float32"  # what its algorithms take
    if only is not None and dtype not in (None, only):
        raise UserError(f"{name} holds {only}, not {dtype}: leave out --dtype")
    return only or dtype or memory.header.dtype
