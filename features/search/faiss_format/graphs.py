"""The graph of an HNSW index in a FAISS file: do its edges stay inside of it?

A node that is on several levels has its edges of each level one after another. FAISS follows them
without looking: from a node on a level it goes to its neighbours, and reads their edges of that
level.

Axes: n nodes, e edges, l levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int
    from numpy.typing import NDArray

MOST_FOUND = 1 << 16  # candidates of a search
_MOST_LEVELS = 64  # half of all nodes of a level are on the next one, at most
_EDGES = 1 << 22  # looked at together


def check_graph(
    ends: Int[NDArray[Any], "l"],
    levels: Int[NDArray[Any], "n"],
    offsets: Int[NDArray[Any], "n+1"],
    neighbours: Int[NDArray[Any], "e"],
    *,
    entry: int,
    top: int,
    n: int,
) -> None:
    """Raise ValueError if a search may leave the graph.

    ends: where a node's edges of each level end, behind a zero. levels: on how many each node is.
    offsets: where its edges begin. neighbours: where they lead, -1 for no edge. entry: the node
    that searches begin at, on the level `top`, the highest. n: nodes that there should be.
    """
    if len(levels) != n or not 0 <= entry < n or not 0 <= top < _MOST_LEVELS:
        raise ValueError(f"its graph has {len(levels)} nodes for {n} items, entered at {entry}")
    if levels.min() < 1 or levels.max() != top + 1 or levels[entry] != top + 1:
        raise ValueError(
            f"its graph has nodes on {levels.min()} to {levels.max()} levels of {top + 1}"
        )
    widths = np.diff(ends.astype(np.int64))
    if len(ends) < top + 2 or ends[0] != 0 or widths.min() < 0:
        raise ValueError("the levels of its graph have no edges, or less than none")
    begins = np.concatenate([[0], np.cumsum(ends.astype(np.int64)[levels])])
    if not np.array_equal(offsets, begins.astype(np.uint64)) or begins[-1] != len(neighbours):
        raise ValueError("the edges of its graph are not where its nodes say")
    for start in range(0, len(neighbours), _EDGES):
        some = neighbours[start : start + _EDGES]
        if some.min() < -1 or some.max() >= n:
            raise ValueError(f"an edge of its graph leads to {some.min()} or {some.max()} of {n}")
    for level in range(1, top + 1):
        _check_level(level, int(ends[level]), int(widths[level]), levels, begins, neighbours)


def _check_level(
    level: int,
    first: int,
    width: int,
    levels: NDArray[Any],
    begins: NDArray[np.int64],
    neighbours: NDArray[Any],
) -> None:
    """Raise ValueError if an edge of a level leads to a node that is not on it."""
    nodes = np.flatnonzero(levels > level)
    step = max(1, _EDGES // max(1, width))
    for start in range(0, len(nodes), step):
        places = begins[nodes[start : start + step], None] + first + np.arange(width)
        found = neighbours[places]
        if (levels[found[found >= 0]] <= level).any():
            raise ValueError(f"an edge on the level {level} of its graph leads to a lower one")
