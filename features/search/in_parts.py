"""Exact nearest neighbours over memories in parts: of shards, in processes, or on a cluster.

The best of a part come with their scores in float64 and their places among all rows, and two such
lists merge into the best of both. That is associative and does not depend on the order: scores are
compared first, and of equal ones the places, which no two rows share. So the answer is that of one
search over all rows, ties included, whoever is done first.

Axes: q queries, n rows of all files together, b of a part, d dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from features.memories.memory import Memory
from features.memories.row_parts import RowsPart, file_parts
from features.search.nearest import nearest_exactly
from features.tasks import InTurn, Tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Best(NamedTuple):
    """The best rows of every query, best first, with their scores."""

    scores: Float[NDArray[np.float64], "q k"]
    rows: Int[NDArray[np.int64], "q k"]

    def merged(self, other: Best, k: int) -> Best:
        """The k best of both."""
        scores = np.concatenate([self.scores, other.scores], axis=1)
        rows = np.concatenate([self.rows, other.rows], axis=1)
        order = np.lexsort((rows, -scores))[:, :k]
        return Best(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1))


class ReadRows(Protocol):
    """Reads a part: its rows as they are compared. It travels to where that is done."""

    def __call__(self, part: RowsPart) -> Float[NDArray[Any], "b d"] | Float[Tensor, "b d"]:
        """The rows, in their order."""


def nearest_in_memory(
    queries: Float[Tensor, "q d"],
    memory: Memory,
    k: int,
    *,
    tasks: Tasks | None = None,
    kept: Int[NDArray[np.int64], " p"] | None = None,
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """The k rows of a memory with the highest cosines, as `features.search.nearest` has them.

    One part for every file of the memory. tasks: where they are searched; here, one after the
    other, unless given. kept: the only rows that are searched, in ascending order.
    """
    parts = file_parts([memory])
    return nearest_in_parts(queries, parts, _stored, k, unit=True, tasks=tasks, kept=kept)


def nearest_in_parts(
    queries: Float[Tensor, "q d"],
    parts: Sequence[RowsPart],
    read: ReadRows,
    k: int,
    *,
    unit: bool,
    tasks: Tasks | None = None,
    kept: Int[NDArray[np.int64], " p"] | None = None,
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """The k best of the rows of all parts, of which `read` says what they are.

    unit: by cosine. kept: the only rows that are searched, in ascending order; all unless given.
    """
    searched = [(part, _of_part(part, kept)) for part in parts]
    asked = [(part, rows) for part, rows in searched if rows is None or len(rows)]
    found = (tasks or InTurn()).map(_Search(read, k, unit), queries.cpu().numpy(), asked)
    empty = Best(np.empty((len(queries), 0)), np.empty((len(queries), 0), np.int64))
    best = reduce(lambda one, other: one.merged(other, k), found, empty)
    return torch.from_numpy(best.scores).to(queries), torch.from_numpy(best.rows).to(queries.device)


def _of_part(part: RowsPart, kept: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """The places in a part of those of its rows that are kept."""
    if kept is None:
        return None
    start, stop = np.searchsorted(kept, [part.first, part.first + part.count])
    return np.asarray(kept[start:stop] - part.first, np.int64)


def _stored(part: RowsPart) -> NDArray[Any]:
    return part.stored()


@dataclass(frozen=True)
class _Search:
    """The best of one part."""

    read: ReadRows
    k: int
    unit: bool

    def __call__(
        self, queries: NDArray[Any], asked_of: tuple[RowsPart, NDArray[np.int64] | None]
    ) -> Best:
        part, kept = asked_of
        asked = torch.from_numpy(np.array(queries))  # Ray's are not writable
        held = self.read(part)
        if kept is not None:
            places = np.array(kept)
            held = held[torch.from_numpy(places)] if isinstance(held, Tensor) else held[places]
        scores, found = nearest_exactly(asked, held, self.k, unit=self.unit)
        rows = found.numpy() if kept is None else kept[found.numpy()]
        return Best(scores.numpy(), rows + part.first)
