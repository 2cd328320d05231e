"""FAISS indices over memories, by inner product, which on unit vectors is the cosine.

Three files: `NAME.faiss`; `NAME.ids.h5` with the rows' ids, items and labels, so that an
index answers without its memory; and `NAME.json`, written last, with the memory's header and
fingerprint, the settings, and the recall against exact search measured when it was built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.files import refuse_existing, replacing, require_file
from features.memory import Memory, MemoryHeader
from features.progress import SILENT, Progress
from features.strings import StringColumn, read_strings, write_strings

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

FORMAT = "mcr-bridge index 1"
BLOCK = 65_536  # rows added at a time
RECALL_QUERIES, RECALL_AT = 1000, 10
TRAINING_ROWS_PER_CELL = 64


@dataclass(frozen=True)
class Hit:
    """One found item: its id, the cosine, and what the memory knows of it.

    path: the file that was embedded, if it was a file. label: its class, if known.
    """

    id: str
    score: float
    item: str
    label: str | None = None
    path: str | None = None


class HitTable:
    """Makes hits of rows, from a memory's or an index's columns."""

    def __init__(
        self,
        ids: Sequence[str],
        items: Sequence[str],
        labels: Sequence[str] | None,
        root: str | None,
    ) -> None:
        self.ids, self.items, self.labels, self.root = ids, items, labels, root

    def hits(self, rows: Sequence[int], scores: Sequence[float]) -> list[Hit]:
        """The hits at `rows`; rows below zero, FAISS's filler, are left out."""
        return [self._hit(row, score) for row, score in zip(rows, scores, strict=True) if row >= 0]

    def _hit(self, row: int, score: float) -> Hit:
        item = self.items[row]
        return Hit(
            id=self.ids[row],
            score=score,
            item=item,
            label=None if self.labels is None else self.labels[row],
            path=None if self.root is None else str(Path(self.root) / item),
        )


def hit_table(memory: Memory) -> HitTable:
    """The hits of a memory's rows."""
    return HitTable(memory.ids, memory.items, memory.labels, memory.header.root)


class Index:
    """A FAISS index open for searching."""

    def __init__(
        self, path: Path, faiss_index: Any, about: dict[str, Any], table: HitTable
    ) -> None:
        self.path = path
        self.faiss_index = faiss_index
        self.about = about
        self.header = MemoryHeader(**about["header"])
        self.table = table

    def __len__(self) -> int:
        return int(self.faiss_index.ntotal)

    def search(self, queries: Float[NDArray[np.float32], "q d"], k: int) -> list[list[Hit]]:
        """The k nearest items of every unit query, best first; fewer if the index is smaller.

        Raises UserError if the queries have another width than the index.
        """
        if queries.ndim != 2 or queries.shape[1] != self.header.dimension:
            raise UserError(
                f"{self.path} holds {self.header.dimension}-d vectors but the queries have shape "
                f"{queries.shape}: rebuild the index with `mcr index`"
            )
        scores, rows = self.faiss_index.search(np.ascontiguousarray(queries, np.float32), k)
        return [
            self.table.hits(row, score)
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
        ]


def build_index(
    memory: Memory,
    out: str | Path,
    *,
    kind: str = "flat",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Index:
    """Build an index of `memory` at `out`, which ends in `.faiss`.

    kind: flat (exact), hnsw, ivf, or any FAISS factory string such as `IVF1024,PQ64`.
    Raises UserError for a string that FAISS does not know or an output that exists.
    """
    import faiss

    out = index_path(out)
    refuse_existing(out, overwrite=overwrite)
    factory = _factory(kind, len(memory))
    try:
        index = faiss.index_factory(memory.dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UserError(
            f"FAISS cannot make the index '{kind}' for {memory.dimension}-d vectors: use flat, "
            "hnsw, ivf or a FAISS factory string"
        ) from error
    search_settings = _tune(faiss, index, len(memory))
    _train(index, memory, factory)
    with progress.task(f"index {out.name}", len(memory)) as advance:
        for start in range(0, len(memory), BLOCK):
            block = np.asarray(memory.embeddings[start : start + BLOCK], dtype=np.float32)
            index.add(_unit(block))
            advance(len(block))
    about = {
        "format": FORMAT,
        "factory": factory,
        "search": search_settings,
        "memory": str(memory.path.resolve()),
        "fingerprint": memory.fingerprint,
        "items": len(memory),
        f"recall@{RECALL_AT}": _recall(faiss, index, memory),
        "faiss": faiss.__version__,
        "header": asdict(memory.header),
    }
    _write(faiss, index, out, memory, about)
    return open_index(out)


def open_index(path: str | Path) -> Index:
    """Open the index at `path`, memory-mapped.

    Raises UserError if a file is missing or damaged, if its parts do not belong together, or
    if the memory it was built from has changed since.
    """
    import faiss
    import h5py

    path = require_file(Path(path), "index")
    about = _about(path)
    ids_path = require_file(path.with_suffix(".ids.h5"), "the index's table of ids")
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise UserError(
            f"{path} cannot be read by FAISS, it is damaged or no index: rebuild it with "
            "`mcr index`"
        ) from error
    try:
        with h5py.File(ids_path, "r") as file:
            ids_fingerprint = str(file.attrs["fingerprint"])
            columns: dict[str, StringColumn] = {
                name: read_strings(file, name, ids_path) for name in file
            }
    except (OSError, KeyError) as error:
        raise UserError(f"{ids_path} is damaged ({error}): rebuild it with `mcr index`") from error
    if ids_fingerprint != about["fingerprint"] or index.ntotal != len(columns["ids"]):
        raise UserError(
            f"{path} ({index.ntotal} vectors), {ids_path.name} ({len(columns['ids'])} ids of "
            f"memory {ids_fingerprint}) and {path.with_suffix('.json').name} (memory "
            f"{about['fingerprint']}) do not belong together: rebuild them with `mcr index`"
        )
    _check_memory(path, about)
    ids = columns["ids"]
    table = HitTable(ids, columns.get("items", ids), columns.get("labels"), about["header"]["root"])
    return Index(path, index, about, table)


def index_path(out: str | Path) -> Path:
    """`out` if it ends in `.faiss`. Raises UserError otherwise."""
    path = Path(out)
    if path.suffix != ".faiss":
        raise UserError(f"the index {path} must end in .faiss: write {path.with_suffix('.faiss')}")
    return path


def _factory(kind: str, items: int) -> str:
    cells = max(1, min(round(4 * items**0.5), items // 39))  # FAISS wants 39 points a cell
    return {"flat": "Flat", "hnsw": "HNSW32", "ivf": f"IVF{cells},Flat"}.get(kind, kind)


def _tune(faiss: Any, index: Any, items: int) -> Mapping[str, int]:
    """Set what FAISS leaves too low for good recall; returns what was set."""
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efConstruction, index.hnsw.efSearch = 200, 128
        return {"efConstruction": 200, "efSearch": 128}
    if isinstance(index, faiss.IndexIVF):
        index.nprobe = max(1, min(index.nlist, round(index.nlist**0.5 * 2)))
        index.cp.seed = items
        return {"nprobe": index.nprobe}
    return {}


def _train(index: Any, memory: Memory, factory: str) -> None:
    if index.is_trained:
        return
    cells = getattr(index, "nlist", 256)
    wanted = min(len(memory), max(TRAINING_ROWS_PER_CELL * cells, 20_000))
    rows = np.random.default_rng(0).choice(len(memory), wanted, replace=False)
    try:
        index.train(_unit(memory.rows(np.sort(rows)).astype(np.float32)))
    except RuntimeError as error:
        raise UserError(
            f"the {len(memory)} items of {memory.path} are too few to train the index {factory}: "
            "use flat or hnsw, or a factory string with fewer cells"
        ) from error


def _recall(faiss: Any, index: Any, memory: Memory) -> float:
    """Share of the exact nearest items of sampled rows that the index finds as well."""
    wanted = min(RECALL_QUERIES, len(memory))
    rows = np.sort(np.random.default_rng(1).choice(len(memory), wanted, replace=False))
    queries = _unit(memory.rows(rows).astype(np.float32))
    k = min(RECALL_AT, len(memory))
    exact = faiss.ResultHeap(nq=wanted, k=k, keep_max=True)
    for start in range(0, len(memory), BLOCK):
        block = _unit(np.asarray(memory.embeddings[start : start + BLOCK], dtype=np.float32))
        scores, found = faiss.knn(queries, block, min(k, len(block)), faiss.METRIC_INNER_PRODUCT)
        exact.add_result(scores, found + start)
    exact.finalize()
    _, found = index.search(queries, k)
    # Compared by score, so that exact ties do not count as misses.
    floor = exact.D[:, -1:] - 1e-6
    exact_scores = np.einsum("qd,qkd->qk", queries, _unit(_gather(memory, found)))
    return float(((exact_scores >= floor) & (found >= 0)).mean())


def _gather(memory: Memory, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    flat = memory.rows(np.maximum(rows, 0).ravel()).astype(np.float32)
    return flat.reshape(*rows.shape, memory.dimension)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def _write(faiss: Any, index: Any, out: Path, memory: Memory, about: dict[str, Any]) -> None:
    import h5py

    with replacing(out) as temporary:
        try:
            faiss.write_index(index, str(temporary))
        except RuntimeError as error:  # FAISS has no error class of its own for a full disk
            raise OSError(str(error)) from error
    with replacing(out.with_suffix(".ids.h5")) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["fingerprint"] = memory.fingerprint
        write_strings(file, "ids", StringColumn.of(memory.ids))
        if memory.items is not memory.ids:
            write_strings(file, "items", StringColumn.of(memory.items))
        if memory.labels is not None:
            write_strings(file, "labels", StringColumn.of(memory.labels))
    with replacing(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _about(path: Path) -> dict[str, Any]:
    about_path = require_file(path.with_suffix(".json"), "the index's description")
    try:
        about: dict[str, Any] = json.loads(about_path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{about_path} is damaged ({error}): rebuild the index") from error
    if about.get("format") != FORMAT:
        raise UserError(f"{about_path} does not describe an index: rebuild it with `mcr index`")
    return about


def _check_memory(path: Path, about: Mapping[str, Any]) -> None:
    """A memory that was moved away is no harm; one that changed makes the index wrong."""
    memory_path = Path(about["memory"])
    if not memory_path.exists():
        return
    now = Memory(memory_path).fingerprint
    if now != about["fingerprint"]:
        raise UserError(
            f"{path} was built from the memory {about['fingerprint']} but {memory_path} is now "
            f"{now}: rebuild the index with `mcr index --overwrite`"
        )
