"""The searches of a batch: those of the same rows and filter are one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bridge.serving.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FoundOne = tuple["NDArray[np.float32]", "NDArray[np.int64]"]
Ticket = tuple[tuple[int, int], int, int]  # the search, the query's place in it, and its depth


@dataclass
class _Search:
    rows: Rows
    allowed: Any  # what passes, as the rows take it
    queries: list[Tensor] = field(default_factory=list)
    depth: int = 0
    found: list[_FoundOne | Exception] = field(default_factory=list)

    def attempt(self, queries: list[Tensor]) -> list[_FoundOne | Exception]:
        """Scores and rows of each query; where all together fail, each is searched alone."""
        try:
            scores, rows = self.rows.search(torch.stack(queries), self.depth, self.allowed)
        except Exception as error:
            if len(queries) == 1:
                return [error]
            return [found for query in queries for found in self.attempt([query])]
        return list(zip(scores, rows, strict=True))


class Searches:
    """Gathers what is to be searched, then searches."""

    def __init__(self) -> None:
        self._searches: dict[tuple[int, int], _Search] = {}

    def add(self, rows: Rows, query: Tensor, depth: int, allowed: Any) -> Ticket:
        """Look up a unit query (d,) among the rows that are allowed, down to `depth` hits."""
        key = (id(rows), id(allowed))
        search = self._searches.setdefault(key, _Search(rows, allowed))
        search.queries.append(query)
        search.depth = max(search.depth, depth)
        return key, len(search.queries) - 1, depth

    def run(self) -> None:
        """Search everything that was added."""
        for search in self._searches.values():
            search.found = search.attempt(search.queries)

    def found(self, ticket: Ticket) -> list[tuple[int, float]]:
        """Rows and scores, best first. Raises what its own search raised."""
        key, place, depth = ticket
        found = self._searches[key].found[place]
        if isinstance(found, Exception):
            raise found
        scores, rows = found
        return list(zip(rows[:depth].tolist(), scores[:depth].tolist(), strict=True))
