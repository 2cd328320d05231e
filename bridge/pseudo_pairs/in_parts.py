"""Softmax retrieval from memories on the disk, in parts that any core or machine may do.

The rows are cut at fixed places, whatever files they are in, every part is computed on one core,
and the parts' states are merged in the order of the rows, in float64. So the answer has the same
bits however many files, processes and machines there are, on processors of one kind.

Axes: n queries, m rows of all files, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bridge.pseudo_pairs.partial import Partial
from features.memories.row_parts import RowsPart, row_parts
from features.memories.streamed_rows import StreamedRows
from features.tasks import Tasks, Threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A task is some seconds of one core at 512 dimensions, and its result some megabytes.
_QUERIES = 4096
_ROWS = 16_384
_QUERY_BLOCK, _KEY_BLOCK = 1024, 4096  # multiplied at a time


def retrieve_in_parts(
    queries: Float[Tensor, "n d"],
    rows: StreamedRows,
    *,
    temperature: float,
    tasks: Tasks | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Float[Tensor, "n d"]:
    """For every query, `normalize(sum_k softmax_k(q . row_k / temperature) row_k)`, on the CPU.

    queries: unit rows in RAM. tasks: where the parts are computed; the cores of this process
    unless given. advance: called with numbers of queries that add up to all; parts of the memory
    count as parts of the queries.
    """
    tasks, found = tasks or Threads(), torch.empty_like(queries)
    parts, softmax = row_parts(rows.memories, _ROWS), _Softmax(temperature)
    for start in range(0, len(queries), _QUERIES):
        asked = queries[start : start + _QUERIES]
        whole = Partial.empty(asked, [asked.shape[1]], torch.float64)
        told = 0
        for done, state in enumerate(tasks.map(softmax, asked.numpy(), parts), start=1):
            # Ray's arrays are not writable, neither these nor the queries of a task.
            best, mass, sums = (torch.from_numpy(np.array(one)) for one in state)
            whole.merge(Partial(best, mass, (sums,)))
            before, told = told, len(asked) * done // len(parts)
            advance(told - before)
        found[start : start + _QUERIES] = whole.values()[0]
    return found


@dataclass(frozen=True)
class _Softmax:
    """What a part holds for queries: a state's best, mass and sums."""

    temperature: float

    def __call__(self, queries: NDArray[Any], part: RowsPart) -> list[NDArray[Any]]:
        asked = torch.from_numpy(np.array(queries))
        state = Partial.empty(asked, [asked.shape[1]])
        for block in _blocks(part):
            keys = block.to(asked)
            state.add(asked, keys, [keys], temperature=self.temperature, at_once=_QUERY_BLOCK)
        return [state.best.numpy(), state.mass.numpy(), state.sums[0].numpy()]


def _blocks(part: RowsPart) -> Iterator[Float[Tensor, "b d"]]:
    read = StreamedRows(part.memories())
    for start in range(part.rows.start, part.rows.stop, _KEY_BLOCK):
        yield read[start : min(start + _KEY_BLOCK, part.rows.stop)]
