"""FAISS's search among the rows that pass a filter, and the vectors of single rows.

The k best of the rows that pass are found, exactly where the search without a filter is exact.

Axes: n rows, q queries, d dimensions.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from features.search.ordering import Found

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy.typing import NDArray

MOST_ASKED = 4096  # rows of a search without a filter, of which those that pass are taken
_FEW = 4096  # rows that pass: scored one by one, also where a graph leads to them badly


class StoredRows:
    """The rows of a FAISS index; used by several threads."""

    def __init__(self, index: Any) -> None:
        self.index = index
        self._finding = threading.Lock()

    def search(
        self,
        queries: Float[NDArray[np.float32], "q d"],
        k: int,
        allowed: Bool[NDArray[np.bool_], "n"],
    ) -> Found:
        """The k best rows of each query, of those that are allowed; fewer if there are."""
        passing = np.flatnonzero(allowed)
        wanted = min(k, len(passing))
        if not wanted:
            return nothing(len(queries))
        if len(passing) > _FEW and (found := self._select(queries, wanted, allowed)):
            return found
        return self._compare(queries, wanted, passing)

    def _select(self, asked: NDArray[np.float32], k: int, allowed: NDArray[Any]) -> Found | None:
        """FAISS's own filter; None if it finds less than there is."""
        selector = _faiss().IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        try:
            found: Found = self.index.search(asked, k, params=_parameters(self.index, selector))
        except RuntimeError:  # a kind of index that has no filter
            more = 2 * k * len(allowed) // int(allowed.sum())
            if more > MOST_ASKED:
                return None
            return first_passing(self.index.search(asked, more), allowed, k)
        return None if (found[1] < 0).any() else found

    def _compare(self, queries: NDArray[np.float32], k: int, passing: NDArray[np.int64]) -> Found:
        """Every row that passes is compared, as the index has it."""
        import torch

        from features.search.nearest import nearest

        part = torch.from_numpy(self.vectors(passing))
        scores, rows = nearest(torch.from_numpy(queries), part, k)
        return scores.numpy(), passing[rows.numpy()]

    def vectors(self, rows: Int[NDArray[np.int64], "n"]) -> Float[NDArray[np.float32], "n d"]:
        """The vectors of rows, as the index has them."""
        self.prepare()
        found: NDArray[np.float32] = self.index.reconstruct_batch(
            np.ascontiguousarray(rows, np.int64)
        )
        return found

    def prepare(self) -> None:
        """Note once where each row lies, eight bytes a row; not by two threads at a time."""
        import faiss

        with self._finding:
            cells = faiss.try_extract_index_ivf(self.index)
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


def first_passing(found: Found, allowed: NDArray[Any], k: int) -> Found | None:
    """The first k of the found rows that are allowed; None if a query has fewer."""
    scores, rows = found
    passes = (rows >= 0) & allowed[rows]
    if (passes.sum(axis=1) < k).any():
        return None
    order = np.argsort(~passes, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def nothing(queries: int) -> Found:
    """What is found where nothing passes."""
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
