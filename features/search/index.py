"""FAISS indices over memories, open for searching; `features.search.building` makes them.

Search is by inner product, which on unit vectors is the cosine.

Three files: `NAME.faiss`; `NAME.ids.h5` with the rows' ids, items and labels, so that an
index answers without its memory; and `NAME.json`, written last, with the memory's header and
fingerprint, the settings, and the recall against exact search measured when it was built.

FAISS parses its file in C++ and follows what it says; `features.search.faiss_format` checks that
first, as checksums tell damage, not intent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.files import require_file
from features.memories.memory import Memory, MemoryHeader
from features.search.filters import TableFilters, Where
from features.search.gpu import MOST_FOUND, gpu_index
from features.search.index_files import check_memory, read_about, read_columns, read_faiss
from features.search.ordering import Found, in_order
from features.search.selected import StoredRows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy.typing import NDArray

    from features.search.backends import Index


@dataclass(frozen=True)
class Hit:
    """One found item: its id, the cosine, and what the memory knows of it.

    path: the file that was embedded, if it was a file. label: its class, if known. columns: its
    metadata.
    """

    id: str
    score: float
    item: str
    label: str | None = None
    path: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


class HitTable:
    """Makes hits of rows, from a memory's or an index's columns."""

    def __init__(
        self,
        ids: Sequence[str],
        items: Sequence[str],
        labels: Sequence[str] | None,
        root: str | None,
        metadata: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.ids, self.items, self.labels, self.root = ids, items, labels, root
        self.metadata = metadata or {}

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def row_of(self, name: str) -> int | None:
        """The row of an id, or None if there is none; the first look makes a table of all."""
        return self._rows.get(name)

    def fetch(self, rows: Iterable[int]) -> None:
        """Bring what is told of `rows`, where it is far away, all at once; here it is at hand."""

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
            columns={name: column[row] for name, column in self.metadata.items()},
        )


def hit_table(memory: Memory) -> HitTable:
    """The hits of a memory's rows."""
    return HitTable(memory.ids, memory.items, memory.labels, memory.header.root, memory.metadata)


def found_hits(
    index: Index, queries: Float[NDArray[np.float32], "q d"], k: int, where: Where | None
) -> list[list[Hit]]:
    """What `index.search_rows` finds, as hits."""
    scores, rows = index.search_rows(queries, k, index.filters.passing(where or {}))
    index.table.fetch(np.unique(rows).tolist())
    return [
        index.table.hits(row, score)
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    ]


class FaissIndex:
    """A FAISS index open for searching: an `Index` (`features.search.backends`)."""

    def __init__(
        self,
        path: Path,
        faiss_index: Any,
        about: dict[str, Any],
        table: HitTable,
        *,
        on_gpu: Any = None,
    ) -> None:
        """on_gpu: a copy of `faiss_index` there, which is searched in its place."""
        self.path = path
        self.faiss_index, self.on_gpu = faiss_index, on_gpu
        self.about = about
        self.header = MemoryHeader(**about["header"])
        self.table = table
        self.filters = TableFilters(table)
        self._rows = StoredRows(faiss_index)

    def __len__(self) -> int:
        return int(self.faiss_index.ntotal)

    def search(
        self, queries: Float[NDArray[np.float32], "q d"], k: int, where: Where | None = None
    ) -> list[list[Hit]]:
        """The k nearest items of every unit query, best first; fewer if there are fewer.

        where: of those that pass this filter. Raises UserError if the queries have another width
        than the index, or for values that are not of their column's kind.
        """
        return found_hits(self, queries, k, where)

    def search_rows(
        self,
        queries: Float[NDArray[np.float32], "q d"],
        k: int,
        passing: Bool[NDArray[np.bool_], "n"] | None = None,
    ) -> tuple[Float[NDArray[np.float32], "q k"], Int[NDArray[np.int64], "q k"]]:
        """As `search`, as arrays: cosines, and rows of the index, -1 where it found none.

        `table` has the columns that the rows are of. For many queries, without an object a hit.
        passing: what `filters` let pass. Of a flat index, in the order of float64, and of equal
        rows the first (`features.search.ordering`).
        """
        if queries.ndim != 2 or queries.shape[1] != self.header.dimension:
            raise UserError(
                f"{self.path} holds {self.header.dimension}-d vectors but the queries have shape "
                f"{queries.shape}: rebuild the index with `mcr index`"
            )
        asked, k = np.ascontiguousarray(queries, np.float32), min(k, len(self))
        find = partial(self._find, passing)
        if self.about["factory"] == "Flat" and k:
            return in_order(find, self.vectors, asked, k, most=len(self))
        return find(asked, k)

    def _find(
        self, passing: NDArray[np.bool_] | None, queries: NDArray[np.float32], k: int
    ) -> Found:
        if passing is not None:
            return self._rows.search(queries, k, passing)
        chosen = self.faiss_index if self.on_gpu is None or k > MOST_FOUND else self.on_gpu
        try:
            scores, rows = chosen.search(queries, k)
        except (RuntimeError, MemoryError) as error:
            raise UserError(
                f"{self.path} cannot be searched by FAISS ({' '.join(str(error).split())[:200]}): "
                "rebuild the index with `mcr index`"
            ) from error
        if rows.size and rows.max() >= len(self.table.ids):
            raise UserError(
                f"{self.path} is damaged, it finds row {rows.max()} of {len(self.table.ids)}: "
                "rebuild it with `mcr index`"
            )
        return scores, rows

    def vectors(self, rows: Int[NDArray[np.int64], "n"]) -> Float[NDArray[np.float32], "n d"]:
        """The vectors of rows, as the index has them."""
        return self._rows.vectors(rows)

    def prepare(self) -> None:
        """Read what a search and a look at single rows read first."""
        self._rows.prepare()
        self._find(None, np.zeros((1, self.header.dimension), np.float32), 1)


def open_index(path: str | Path, *, device: str = "cpu") -> FaissIndex:
    """Open the FAISS index at `path`, memory-mapped.

    device: where it is searched; see `features.search.gpu`. To bring an index to a GPU takes as
    long as reading it, which is worth it for many queries.
    Raises UserError if the device cannot be used, if a file is missing or damaged, if its
    parts do not belong together, or if the memory it was built from has changed since.
    """
    path = require_file(Path(path), "index")
    if path.suffix == ".h5":
        raise UserError(f"{path} is a memory, not an index: search it with --memory, or index it")
    about = read_about(path)
    columns, metadata, ids_fingerprint = read_columns(path.with_suffix(".ids.h5"))
    index = read_faiss(path, about)
    ids = columns["ids"]
    built = (about["fingerprint"], about["items"], about["items"])
    if (ids_fingerprint, len(ids), index.ntotal) != built:
        raise UserError(
            f"{path} ({index.ntotal} vectors of {index.d} dimensions), its .ids.h5 ({len(ids)} ids "
            f"of the memory {ids_fingerprint}) and its .json ({about['items']} items of the memory "
            f"{about['fingerprint']}) do not belong together: rebuild them with `mcr index`"
        )
    check_memory(path, about)
    lengths = {len(column) for column in (*columns.values(), *metadata.values())}
    if lengths != {len(ids)} or index.d != about["header"]["dimension"]:
        raise UserError(
            f"{path} ({len(ids)} ids, {index.d} dimensions) has columns of {sorted(lengths)} rows "
            f"and a description of {about['header']['dimension']} dimensions, which do not belong "
            "together: rebuild them with `mcr index`"
        )
    table = HitTable(
        ids, columns.get("items", ids), columns.get("labels"), about["header"].get("root"), metadata
    )
    return FaissIndex(path, index, about, table, on_gpu=gpu_index(index, device, path))
