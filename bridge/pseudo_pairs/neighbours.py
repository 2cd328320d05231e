"""The nearest items of a memory: all that score above a level, which a sample of the memory sets.

Rough scores decide, so that near the level some items are kept that score a little less than
others that are not; which are kept is known exactly.

Axes: n queries, m memory items, d dimensions, s sampled items, c items that are kept at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from features.compiled import compiled
from features.cores import in_parts
from features.search.rough import Levels, RoughQueries

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 4  # times as many items are kept as wanted, where the level was set too low
_MARKS = 1 << 22  # bytes held at once, which stay in the cache
_QUERIES = 64  # whose marks a core looks through together
_BELOW_ALL = -4.0  # any score of unit rows


def spread(items: int, rate: int) -> Int[Tensor, " s"]:
    """One row of every `rate`, drawn by a fixed seed: a memory may have an order of its own."""
    starts = torch.arange(0, items, rate)
    widths = (items - starts).clamp_max(rate)
    drawn = torch.rand(len(starts), generator=torch.Generator().manual_seed(0))
    return starts + (drawn * widths).long()


@dataclass(frozen=True)
class Neighbours:
    """The kept items of every query, in the memory's order.

    row: (n, c); those behind a query's count mean nothing. complete: (n,), false for a query with
    more items above its level than there is room for.
    """

    row: NDArray[np.int32]
    count: NDArray[np.int64]
    complete: NDArray[np.bool_]


def find_neighbours(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "m d"],
    levels: Levels,
    sample: Float[Tensor, "n s"],
    kept: int,
) -> Neighbours:
    """About `kept` items of every query; all items where there are not many more.

    levels: of the keys. sample: the scores of one item of every so many.
    """
    rough, n = RoughQueries(queries, keys, levels), len(queries)
    filled = n + -n % _QUERIES
    most = min(len(keys), _MOST * kept)
    row = np.empty((filled, most), np.int32)
    count = np.zeros(filled, np.int64)
    least = _level(sample, kept, len(keys))
    block = max(1, _MARKS // filled)
    for start in range(0, len(keys), block):
        marks = rough.above(slice(start, start + block), least).numpy().view(np.uint64)

        def look(first: int, last: int, marks=marks, start=start) -> None:  # type: ignore[no-untyped-def]
            _collect(marks, start, row, count, first // 8, last // 8)

        in_parts(look, filled, step=_QUERIES)
    return Neighbours(row[:n], np.minimum(count[:n], most), count[:n] <= most)


def _level(sample: Float[Tensor, "n s"], kept: int, items: int) -> Float[Tensor, " n"]:
    """A score that about `kept` of all items exceed."""
    if items <= _MOST * kept:
        return sample.new_full((len(sample),), _BELOW_ALL)
    rank = -(-kept * sample.shape[1] // items)
    return sample.topk(rank, dim=1).values[:, -1].float()


@compiled
def _collect(
    marks: NDArray[np.uint64],
    first: int,
    row: NDArray[np.int32],
    count: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    """Append the marked rows to the queries' lists.

    marks: (k, n / 8), eight queries a word. first: row of the first. start, stop: of the words, in
    eights; most eights have no mark.
    """
    room = row.shape[1]
    for key in range(marks.shape[0]):
        for line in range(start, stop, 8):
            some = marks[key, line]
            for word in range(line + 1, line + 8):
                some |= marks[key, word]
            if some == 0:
                continue
            for word in range(line, line + 8):
                mark = marks[key, word]
                query = 8 * word
                while mark != 0:
                    if mark & np.uint64(255):
                        if count[query] < room:
                            row[query, count[query]] = first + key
                        count[query] += 1
                    mark >>= np.uint64(8)
                    query += 1
