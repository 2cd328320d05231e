"""Building FAISS indices over memories, with their recall against exact search.

Written are the three files that `features.search.index` reads.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UsageError, UserError
from features.files import MEMORY_SUFFIX, explained, refuse_existing, replacing
from features.hdf5 import put_text
from features.locks import sole_writer
from features.memories.container import creating, told_fingerprint
from features.memories.memory import Memory
from features.memories.sealing import as_column, named_columns
from features.memories.sharded import ShardedMemory
from features.memories.strings import write_named, write_strings
from features.progress import SILENT, Progress
from features.sealed import sealed
from features.search.faiss_format.checking import CHECKED, unchecked_parts
from features.search.index import FaissIndex, open_index
from features.search.index_files import FORMAT, full_checksum, sampled_checksum

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WRITTEN = 1 << 20  # bytes that FAISS writes at a time
BLOCK = 65_536  # rows added at a time
RECALL_QUERIES, RECALL_AT = 1000, 10
RECALL_WANTED = 0.99
DEPTHS = (64, 128, 256, 512)  # not less: queries of other modalities are harder than the rows
TRAINING_ROWS_PER_CELL = 64


def build_index(
    memory: Memory,
    out: str | Path,
    *,
    kind: str = "flat",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> FaissIndex:
    """Build an index of `memory` at `out`, which ends in `.faiss`.

    kind: flat (exact), hnsw, ivf, or any FAISS factory string such as `IVF1024,PQ64`.
    Raises UserError for a string that FAISS does not know or an output that exists.
    """
    out = index_path(out)
    with explained(out), sole_writer(out):
        _refuse(out, memory, overwrite=overwrite)
        return _built(memory, out, kind, progress)


def _refuse(out: Path, memory: Memory, *, overwrite: bool) -> None:
    """Raise UserError if something is there, but for what a process left that was killed.

    That is a table of this memory's ids without a description, which is put in place last. Also for
    a memory whose file is not called as memories are: an index of such is not opened.
    """
    if memory.path.suffix != MEMORY_SUFFIX:
        raise UserError(f"{memory.path} is not called NAME.h5, as memories are: rename it")
    table, about = out.with_suffix(".ids.h5"), out.with_suffix(".json")
    unfinished = not about.exists() and _is_of(table, memory)
    for path in (out, table, about):
        refuse_existing(path, overwrite=overwrite or unfinished)


def _is_of(table: Path, memory: Memory) -> bool:
    import h5py

    try:
        with h5py.File(table, "r") as file:
            return told_fingerprint(file, table) == memory.fingerprint
    except (OSError, ValueError):  # of what is missing, or not a table
        return False


def _built(memory: Memory, out: Path, kind: str, progress: Progress) -> FaissIndex:
    import faiss  # for its version

    factory = _factory(kind, memory)
    index = _empty(kind, factory, memory.dimension)
    search_settings = _tune(index)
    _train(index, memory, factory)
    _add(index, memory, progress)
    sample = Sample(memory)
    if "efSearch" in search_settings:
        search_settings["efSearch"] = _choose_depth(index, sample)
    about = {
        "format": FORMAT,
        "factory": factory,
        "search": search_settings,
        "memory": str(memory.path.resolve()),
        **fingerprints(memory),
        "items": len(memory),
        f"recall@{RECALL_AT}": sample.recall(index),
        "faiss": faiss.__version__,
        "header": asdict(memory.header),
    }
    _write(index, out, memory, about)
    return open_index(out)


def fingerprints(memory: Memory) -> dict[str, str]:
    """By which an index knows its memory, also when its shards have been merged."""
    told = {"fingerprint": memory.fingerprint}
    if isinstance(memory, ShardedMemory):
        told["merged_fingerprint"] = memory.merged_fingerprint()
    return told


def _add(index: Any, memory: Memory, progress: Progress) -> None:
    with progress.task(f"index {memory.path.name}", len(memory)) as advance:
        for start in range(0, len(memory), BLOCK):
            block = np.asarray(memory.read(start, start + BLOCK), dtype=np.float32)
            index.add(unit_rows(block))
            advance(len(block))


def trial_index(kind: str, rows: NDArray[np.float32], *, items: int) -> tuple[int, str]:
    """Build an index of a sample and drop it: its bytes, and its FAISS factory string.

    rows: unit. items: of the whole memory, which decides the cells of `ivf` as far as the sample
    can train them. Raises UserError for a string that FAISS does not know.
    """
    import faiss

    factory = _factory_of(kind, min(items, len(rows)), half=False)
    index = _empty(kind, factory, rows.shape[1])
    _tune(index)
    if not index.is_trained:
        try:
            index.train(rows)
        except RuntimeError as error:
            raise UserError(
                f"the {len(rows)} rows of a sample are too few to try the index {factory}: build "
                "it without --dry-run"
            ) from error
    index.add(rows)
    return int(faiss.serialize_index(index).nbytes), factory


def _empty(kind: str, factory: str, dimension: int) -> Any:
    import faiss

    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UsageError(
            f"FAISS cannot make the index '{kind}' for {dimension}-d vectors: use flat, "
            "hnsw, ivf or a FAISS factory string"
        ) from error
    unchecked = unchecked_parts(index)
    if unchecked:
        raise UsageError(
            f"the index '{kind}' is, or has in it, FAISS's {unchecked[0]}, whose files are not "
            f"opened: use {CHECKED}"
        )
    return index


def index_path(out: str | Path) -> Path:
    """`out` if it ends in `.faiss`. Raises UserError otherwise."""
    path = Path(out)
    if path.suffix != ".faiss":
        raise UserError(f"the index {path} must end in .faiss: write {path.with_suffix('.faiss')}")
    return path


def _factory(kind: str, memory: Memory) -> str:
    return _factory_of(kind, len(memory), half=memory.header.dtype == "float16")


def _factory_of(kind: str, items: int, *, half: bool) -> str:
    cells = max(1, min(round(4 * items**0.5), items // 39))  # FAISS wants 39 points a cell
    # A graph's rows are read from all over the memory: with half of the bytes in two thirds of the
    # time, and it is built as much faster.
    graph = "HNSW32_SQfp16" if half else "HNSW32"
    return {"flat": "Flat", "hnsw": graph, "ivf": f"IVF{cells},Flat"}.get(kind, kind)


def _tune(index: Any) -> dict[str, int]:
    """Set what FAISS leaves too low for good recall; returns what was set."""
    import faiss

    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efConstruction = 200
        return {"efConstruction": 200, "efSearch": index.hnsw.efSearch}
    cells = faiss.try_extract_index_ivf(index)  # also behind a PCA or OPQ
    if cells is not None:
        cells.nprobe = max(1, min(cells.nlist, round(cells.nlist**0.5 * 2)))
        return {"nprobe": cells.nprobe}
    return {}


def _train(index: Any, memory: Memory, factory: str) -> None:
    if index.is_trained:
        return
    import faiss

    inverted = faiss.try_extract_index_ivf(index)
    cells = 256 if inverted is None else inverted.nlist
    wanted = min(len(memory), max(TRAINING_ROWS_PER_CELL * cells, 20_000))
    rows = np.random.default_rng(0).choice(len(memory), wanted, replace=False)
    try:
        index.train(unit_rows(memory.rows(np.sort(rows)).astype(np.float32)))
    except RuntimeError as error:
        raise UserError(
            f"the {len(memory)} items of {memory.path} are too few to train the index {factory}: "
            "use flat or hnsw, or a factory string with fewer cells"
        ) from error


def _choose_depth(index: Any, sample: Sample) -> int:
    """Set the least efSearch of an HNSW index that finds enough; each doubling takes 1.5 times."""
    for depth in DEPTHS:
        index.hnsw.efSearch = depth
        if sample.recall(index) >= RECALL_WANTED:
            break
    return int(index.hnsw.efSearch)


class Sample:
    """Rows of a memory and the scores of their exact nearest, to measure recall with."""

    def __init__(self, memory: Memory) -> None:
        import torch

        from features.search.in_parts import nearest_in_memory

        wanted = min(RECALL_QUERIES, len(memory))
        rows = np.sort(np.random.default_rng(1).choice(len(memory), wanted, replace=False))
        self.memory = memory
        self.queries = unit_rows(memory.rows(rows).astype(np.float32))
        self.k = min(RECALL_AT, len(memory))
        exact, _ = nearest_in_memory(torch.from_numpy(self.queries), memory, self.k)
        self.floor = exact[:, -1:].numpy() - 1e-6

    def recall(self, index: Any) -> float:
        """Share of the exact nearest items of the rows that the index finds as well."""
        _, found = index.search(self.queries, self.k)
        # Compared by score, so that exact ties do not count as misses.
        scores = np.einsum("qd,qkd->qk", self.queries, unit_rows(_gather(self.memory, found)))
        return float(((scores >= self.floor) & (found >= 0)).mean())


def _gather(memory: Memory, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    flat = memory.rows(np.maximum(rows, 0).ravel()).astype(np.float32)
    return flat.reshape(*rows.shape, memory.dimension)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def _write_vectors(index: Any, path: Path) -> None:
    """FAISS's own file. FAISS itself only prints that closing one failed."""
    import faiss

    failed: list[OSError] = []
    with path.open("wb") as file:

        def write(block: bytes) -> None:
            try:
                file.write(block)
            except OSError as error:
                failed.append(error)
                raise

        try:
            faiss.write_index(index, faiss.PyCallbackIOWriter(write, _WRITTEN))  # type: ignore[attr-defined]
        except RuntimeError:
            if failed:
                raise failed[0] from None
            raise


def _write(index: Any, out: Path, memory: Memory, about: dict[str, Any]) -> None:
    with (
        # Put in place from the last to the first, at the same time.
        replacing(out.with_suffix(".json")) as told,
        replacing(out) as vectors,
        creating(out.with_suffix(".ids.h5")) as (file, _, _),
    ):
        with explained(out):
            _write_vectors(index, vectors)
        put_text(file, "fingerprint", memory.fingerprint)
        for name, column in named_columns(memory.columns):
            if column is not None:
                write_strings(file, name, as_column(column))
        metadata = {name: as_column(column) for name, column in memory.metadata.items()}
        write_named(file, "columns", metadata)
        about = {
            **about,
            "faiss_checksum": sampled_checksum(vectors),
            "faiss_digest": full_checksum(vectors),
        }
        told.write_text(json.dumps(sealed(about), indent=2) + "\n", encoding="utf-8")
