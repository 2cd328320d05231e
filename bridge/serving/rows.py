"""The rows of a collection, ready to be searched again and again, with or without a filter.

A filtered search finds the k best of the rows that pass, exactly where the search without a
filter is exact. Rows below zero are FAISS's filler and mean that there are no more.

Axes: n rows, q queries, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from features.search.backends import Index
from features.search.nearest import ExactSearch, as_tensor, nearest
from features.search.ordering import Found
from features.search.selected import MOST_ASKED, first_passing, nothing

_WORTH_A_COPY = 1 << 31  # bytes: what is larger is searched as it lies on the disk


class Rows(Protocol):
    """What can be searched. allowed: what the same collection's filters let pass."""

    def prepare(self) -> None:
        """Do beforehand what the first search would do."""

    def search(self, queries: Float[Tensor, "q d"], k: int, allowed: Any) -> Found:
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
            return nothing(len(queries))
        asked = 2 * k * len(allowed) // len(passing)
        wanted = min(k, len(passing))
        if asked <= MOST_ASKED:
            found = first_passing(self._search(queries, asked), allowed, wanted)
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
    """Rows of an index, of any back end."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def prepare(self) -> None:
        """Read what a search and a look at single rows read first."""
        self.index.prepare()

    def search(self, queries: Float[Tensor, "q d"], k: int, allowed: Any) -> Found:
        """See `Rows`."""
        return self.index.search_rows(queries.cpu().float().numpy(), k, allowed)

    def vector(self, row: int) -> Float[Tensor, "d"]:
        """See `Rows`."""
        stored = torch.from_numpy(self.index.vectors(np.array([row]))[0])
        return torch.nn.functional.normalize(stored, dim=0)
