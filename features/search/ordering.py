"""The order of exact search, whatever made the scores: float64's, and of equals the first row.

An index scores in float32, in an order of sums of its own: rows whose scores are closer than that
rounding come in any order, copies of a row among them. Those are scored again in float64, and more
rows are asked for as long as one beyond the k best may belong to them. So two exact indices of the
same vectors find the same rows, and those of `features.search.nearest`.

Axes: n rows, q queries, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import NDArray

ROUNDING = 4e-6  # of the difference of two float32 scores of unit vectors; 0.5e-6 was seen
_MARGIN = 6  # rows asked for beyond the k best
_WIDER = 4
_MOST = 1024  # rows that are asked for, beyond four times k: of more copies, any are found

Found = tuple["Float[NDArray[np.float32], 'q k']", "Int[NDArray[np.int64], 'q k']"]
Find = Callable[["Float[NDArray[np.float32], 'q d']", int], Found]
Vectors = Callable[["Int[NDArray[np.int64], 'n']"], "Float[NDArray[np.float32], 'n d']"]


def in_order(
    find: Find,
    vectors: Vectors,
    queries: Float[NDArray[np.float32], "q d"],
    k: int,
    *,
    most: int,
) -> Found:
    """The k best rows of each query, in the order of float64.

    find: the scores and rows of the best, best first, -1 where there are no more. vectors: those
    at rows. most: rows that can be asked for.
    """
    most = max(k, min(most, max(_WIDER * k, _MOST)))
    asked = min(k + _MARGIN, most)
    scores, rows = find(queries, asked)
    best, which = scores[:, :k].copy(), rows[:, :k].copy()
    close = _close(scores, rows, k)
    if close.any():
        best[close], which[close] = _rescored(
            find, vectors, queries[close], (scores[close], rows[close]), k, asked, most
        )
    return best, which


def _close(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether rounding may have decided among the first k rows, or about the next."""
    there = rows[:, 1 : k + 1] >= 0
    gaps = scores[:, :k][:, : there.shape[1]] - scores[:, 1 : k + 1]
    return np.asarray(((gaps < ROUNDING) & there).any(axis=1))


def _rescored(
    find: Find,
    vectors: Vectors,
    queries: NDArray[np.float32],
    found: Found,
    k: int,
    asked: int,
    most: int,
) -> Found:
    """found: of `asked` rows, fewer if there are fewer; of queries that need a closer look."""
    scores, rows = found
    k = min(k, rows.shape[1])
    best, which = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    left = np.arange(len(queries))
    while len(left):
        # Is the last one far enough below the k-th, and so all that was not asked for?
        apart = scores[:, -1] < scores[:, k - 1] - ROUNDING
        done = apart | (rows[:, -1] < 0) | (rows.shape[1] < asked) | (asked >= most)
        for place in np.flatnonzero(done):
            query = left[place]
            best[query], which[query] = _sorted(
                queries[query], scores[place], rows[place], vectors, k
            )
        left = left[~done]
        if len(left):
            asked = min(most, _WIDER * asked)
            scores, rows = find(queries[left], asked)
    return best, which


def _sorted(
    query: NDArray[np.float32],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    vectors: Vectors,
    k: int,
) -> Found:
    """One query's rows by their scores in float64, and the first of equals first."""
    there = (rows >= 0) & (scores >= scores[k - 1] - ROUNDING)
    known = np.sort(rows[there])
    exact = (vectors(known).astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    order = np.argsort(-exact, kind="stable")[:k]
    best, which = np.full(k, -np.inf, np.float32), np.full(k, -1, np.int64)
    best[: len(order)], which[: len(order)] = exact[order], known[order]
    return best, which
