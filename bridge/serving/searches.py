"""The searches of a batch: those of the same rows and filter are one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bridge.serving.rows import Found, Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Ticket = tuple[tuple[int, int], int, int]  # the search, the query's place in it, and its depth


@dataclass
class _Search:
    rows: Rows
    allowed: NDArray[np.bool_] | None
    queries: list[Tensor] = field(default_factory=list)
    depth: int = 0
    found: Found | None = None


class Searches:
    """Gathers what is to be searched, then searches."""

    def __init__(self) -> None:
        self._searches: dict[tuple[int, int], _Search] = {}

    def add(
        self, rows: Rows, query: Tensor, depth: int, allowed: NDArray[np.bool_] | None
    ) -> Ticket:
        """Look up a unit query (d,) among the rows that are allowed, down to `depth` hits."""
        key = (id(rows), id(allowed))
        search = self._searches.setdefault(key, _Search(rows, allowed))
        search.queries.append(query)
        search.depth = max(search.depth, depth)
        return key, len(search.queries) - 1, depth

    def run(self) -> None:
        """Search everything that was added."""
        for search in self._searches.values():
            search.found = search.rows.search(
                torch.stack(search.queries), search.depth, search.allowed
            )

    def found(self, ticket: Ticket) -> list[tuple[int, float]]:
        """Rows and scores, best first."""
        key, place, depth = ticket
        found = self._searches[key].found
        if found is None:
            return []
        scores, rows = found
        pairs = zip(rows[place, :depth].tolist(), scores[place, :depth].tolist(), strict=True)
        return list(pairs)
