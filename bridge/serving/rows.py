"""The rows of a collection, ready to be searched again and again, with or without a filter.

A filtered search finds the k best of the rows that pass, exactly where the search without a
filter is exact. Rows below zero are FAISS's filler and mean that there are no more.

Axes: n rows, q queries, d dimensions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from features.search.index import Index
from features.search.nearest import ExactSearch, as_tensor, nearest

_MOST_ASKED = 4096  # rows of a search without a filter, of which those that pass are taken
_WORTH_A_COPY = 1 << 31  # bytes: what is larger is searched as it lies on the disk
_FEW = 4096  # rows that pass: scored one by one, also where a graph leads to them badly

Found = tuple[Float[NDArray[np.float32], "q k"], Int[NDArray[np.int64], "q k"]]


class Rows(Protocol):
    """What can be searched."""

    def prepare(self) -> None:
        """Do beforehand what the first search would do."""

    def search(
        self, queries: Float[Tensor, "q d"], k: int, allowed: Bool[NDArray[np.bool_], "n"] | None
    ) -> Found:
        """The k best rows of each unit query, of those that are allowed, and their cosines."""

    def vector(self, row: int) -> Float[Tensor, "d"]:
        """The unit embedding of a row."""


class ExactRows:
    """Rows that are all compared."""

    def __init__(self, load: Callable[[], Tensor | NDArray[Any]]) -> None:
        """load: gives the rows, at the first search; a memory map is not read before."""
        self._load = load

    @cached_property
    def rows(self) -> Float[Tensor, "n d"]:
        """All of them, of any floating type."""
        return as_tensor(self._load())

    @cached_property
    def _kept(self) -> ExactSearch | None:
        worth = self.rows.numel() * 4 <= _WORTH_A_COPY
        return ExactSearch(self.rows, unit=True) if worth else None

    def prepare(self) -> None:
        """Make the copy that is searched."""
        self._search(self.rows[:1].float(), 1)

    def search(
        self, queries: Float[Tensor, "q d"], k: int, allowed: Bool[NDArray[np.bool_], "n"] | None
    ) -> Found:
        """See `Rows`."""
        if allowed is None:
            return self._search(queries, k)
        passing = np.flatnonzero(allowed)
        if not len(passing):
            return _nothing(len(queries))
        asked = 2 * k * len(allowed) // len(passing)
        wanted = min(k, len(passing))
        if asked <= _MOST_ASKED:
            found = _passing(self._search(queries, asked), allowed, wanted)
            if found is not None:
                return found
        # Few pass, or those that do are far away.
        part = self.rows[torch.from_numpy(passing)]
        scores, rows = nearest(queries.cpu().float(), part, k, unit=True)
        return scores.numpy(), passing[rows.numpy()]

    def _search(self, queries: Tensor, k: int) -> Found:
        asked = queries.cpu().float()
        if self._kept is not None:
            scores, rows = self._kept.search(asked, k)
        else:
            scores, rows = nearest(asked, self.rows, k, unit=True)
        return scores.numpy(), rows.numpy()

    def vector(self, row: int) -> Float[Tensor, "d"]:
        """See `Rows`."""
        return torch.nn.functional.normalize(self.rows[row].float(), dim=0)


class IndexRows:
    """Rows of a FAISS index, memory-mapped."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._finding = threading.Lock()

    def prepare(self) -> None:
        """Read what a search and a look at single rows read first."""
        self._find_rows()
        self.index.search_rows(np.zeros((1, self.index.header.dimension), np.float32), 1)

    def search(
        self, queries: Float[Tensor, "q d"], k: int, allowed: Bool[NDArray[np.bool_], "n"] | None
    ) -> Found:
        """See `Rows`."""
        asked = np.ascontiguousarray(queries.cpu().float().numpy())
        if allowed is None:
            return self.index.search_rows(asked, k)
        passing = np.flatnonzero(allowed)
        wanted = min(k, len(passing))
        if not wanted:
            return _nothing(len(queries))
        if len(passing) > _FEW and (found := self._select(asked, wanted, allowed)):
            return found
        return self._compare(queries, wanted, passing)

    def _select(self, asked: NDArray[np.float32], k: int, allowed: NDArray[Any]) -> Found | None:
        """FAISS's own filter; None if it finds less than there is."""
        index = self.index.faiss_index
        selector = _faiss().IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        try:
            found: Found = index.search(asked, k, params=_parameters(index, selector))
        except RuntimeError:  # a kind of index that has no filter
            more = 2 * k * len(allowed) // int(allowed.sum())
            return _passing(index.search(asked, more), allowed, k) if more <= _MOST_ASKED else None
        return None if (found[1] < 0).any() else found

    def _compare(self, queries: Tensor, k: int, passing: NDArray[np.int64]) -> Found:
        """Every row that passes is compared, as the index has it."""
        part = self._vectors(passing)
        scores, rows = nearest(queries.cpu().float(), part, k)
        return scores.numpy(), passing[rows.numpy()]

    def vector(self, row: int) -> Float[Tensor, "d"]:
        """See `Rows`."""
        return torch.nn.functional.normalize(self._vectors(np.array([row]))[0], dim=0)

    def _vectors(self, rows: NDArray[np.int64]) -> Float[Tensor, "n d"]:
        self._find_rows()
        index = self.index.faiss_index
        return torch.from_numpy(index.reconstruct_batch(np.ascontiguousarray(rows, np.int64)))

    def _find_rows(self) -> None:
        """Note once where each row lies, eight bytes a row; not by two threads at a time."""
        import faiss

        with self._finding:
            cells = faiss.try_extract_index_ivf(self.index.faiss_index)
            if cells is not None and cells.direct_map.no():
                cells.make_direct_map()


def _faiss() -> Any:
    """FAISS, whose stubs do not know what SWIG makes of its constructors."""
    import faiss

    return faiss


def _parameters(index: Any, selector: Any) -> Any:
    """The search parameters of the index's kind, with its own settings."""
    faiss = _faiss()
    if isinstance(index, faiss.IndexPreTransform):
        inner = _parameters(faiss.downcast_index(index.index), selector)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    return faiss.SearchParameters(sel=selector)


def _passing(found: Found, allowed: NDArray[Any], k: int) -> Found | None:
    """The first k of the found rows that are allowed; None if a query has fewer."""
    scores, rows = found
    passes = (rows >= 0) & allowed[rows]
    if (passes.sum(axis=1) < k).any():
        return None
    order = np.argsort(~passes, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _nothing(queries: int) -> Found:
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
