"""Exact nearest neighbours by inner product, or cosine: the rows that float64 would choose.

Scores are made block by block in the device's fastest format, with a proven bound of their
error (`features.search.fast_scores`). What is within the bound of being among the k best is scored
again in float64. Of rows with equal scores, the first is nearest. No matrix of all scores is
kept: a block's are reduced to the highest of every group of rows, and only groups with a
score high enough are looked at.

Axes: n rows, b rows of a block, g groups of a block, p pairs of a query and a row, q queries,
d dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from features.errors import UserError
from features.search.fast_scores import (
    FastQueries,
    FastRows,
    fast_queries,
    fast_rows,
    fits_halves,
    halves_are_fast,
    scores,
    stored_rows,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUP = 32  # rows
_SCORES = 1 << 24  # of a block: what the caches hold
_BLOCK = 8192  # rows that are converted for one search
_QUERIES = 2048  # searched together
_FEW = 2  # queries, multiplied with stored float16 rows in place
_PENDING = 1 << 20  # pairs that wait to be scored again
_RESCORED = 1 << 19  # numbers scored at a time


class ExactSearch:
    """Rows made ready for exact search, for many searches of the same rows."""

    def __init__(
        self,
        rows: Float[Tensor, "n d"] | NDArray[Any],
        *,
        unit: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make a copy of `rows` in the format that `device` multiplies fastest.

        rows: of any floating type; kept as they are, so they may be a memory map.
        unit: compare by cosine: divide the rows by their norms.
        Raises UserError for rows that are not finite or, if unit, have no norm.
        """
        self.device = torch.device(device)
        self.rows = as_tensor(rows)
        if self.device.type != "cpu":
            self.rows = self.rows.to(self.device)
        self.unit = unit
        self._many = fast_rows(self.rows, unit=unit, device=self.device)
        halves = self.rows.dtype == torch.float16 and halves_are_fast(self.device)
        self._few = stored_rows(self.rows, unit=unit) if halves else None

    def __len__(self) -> int:
        return len(self.rows)

    def search(
        self, queries: Float[Tensor, "q d"], k: int
    ) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
        """The k best rows of every query, best first, and their scores; fewer if n < k.

        The scores are rounded from float64 to the queries' type. Raises UserError for queries
        of another width than the rows, or that are not finite.
        """
        return _in_parts(self, queries, k)

    def prepared(self, queries: Tensor, _: int) -> Iterator[tuple[int, FastRows]]:
        """The rows to multiply with `queries`, in one piece."""
        few = self._few is not None and len(queries) <= _FEW and fits_halves(self._few, queries)
        yield 0, self._few if few and self._few is not None else self._many


class _Once:
    """Rows for one search: made ready block by block, and forgotten."""

    def __init__(self, rows: Tensor, *, unit: bool, device: torch.device) -> None:
        self.rows, self.unit, self.device = rows, unit, device

    def prepared(self, queries: Tensor, k: int) -> Iterator[tuple[int, FastRows]]:
        halves = self.rows.dtype == torch.float16 and halves_are_fast(self.device)
        few = halves and len(queries) <= _FEW
        size = max(_BLOCK, 8 * _GROUP * k)
        for start in range(0, len(self.rows), size):
            block = self.rows[start : start + size]
            stored = stored_rows(block, unit=self.unit) if few else None
            if stored is None or not fits_halves(stored, queries):
                stored = fast_rows(block, unit=self.unit, device=self.device)
            yield start, stored


def nearest(
    queries: Float[Tensor, "q d"],
    rows: Float[Tensor, "n d"] | NDArray[Any],
    k: int,
    *,
    unit: bool = False,
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """The k rows with the highest inner products, as `ExactSearch`, for a single search.

    Runs on the queries' device; the rows come there block by block.
    """
    return _in_parts(_Once(as_tensor(rows), unit=unit, device=queries.device), queries, k)


def nearest_exactly(
    queries: Float[Tensor, "q d"],
    rows: Float[Tensor, "n d"] | NDArray[Any],
    k: int,
    *,
    unit: bool = False,
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """As `nearest`, with the scores as they were compared, in float64: parts of one search."""
    return _in_float64(_Once(as_tensor(rows), unit=unit, device=queries.device), queries, k)


def as_tensor(rows: Tensor | NDArray[Any]) -> Tensor:
    """An array as a tensor without a copy, also of a read-only memory map."""
    if isinstance(rows, Tensor):
        return rows
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing here writes
        return torch.from_numpy(np.asarray(rows))


def _in_parts(source: ExactSearch | _Once, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    scores, rows = _in_float64(source, queries, k)
    return scores.to(queries), rows


def _in_float64(source: ExactSearch | _Once, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if queries.ndim != 2 or queries.shape[1] != source.rows.shape[1]:
        raise UserError(
            f"the rows to search have {source.rows.shape[1]} dimensions but the queries have "
            f"shape {tuple(queries.shape)}: embed them with the encoder of the rows"
        )
    if source.device.type == "mps":
        raise UserError("exact search needs float64, which MPS does not have: search on the CPU")
    k = max(0, min(k, len(source.rows)))
    if not k or not len(queries):
        empty = queries.new_empty((len(queries), k))
        return empty.double(), empty.long()
    found = [_search(source, part.to(source.device), k) for part in torch.split(queries, _QUERIES)]
    values = torch.cat([one.scores for one in found]).to(queries.device)
    return values, torch.cat([one.rows for one in found]).to(queries.device)


def _search(source: ExactSearch | _Once, queries: Tensor, k: int) -> _Best:
    best = _Best(source.rows, queries, k, unit=source.unit)
    blocks, settle_at = 0, 1
    for offset, rows in source.prepared(queries, k):
        fast = fast_queries(queries, rows)
        pieces = list(_pieces(len(rows.rows), len(queries), k))
        room = fast.rows.new_empty((max(stop - start for start, stop, _ in pieces), len(queries)))
        for start, stop, group in pieces:
            best.offer(offset + start, scores(rows, start, stop, fast, room), group, fast)
            blocks += 1
            if blocks == settle_at or best.pending > _PENDING:
                best.settle()  # raises the bar for the blocks to come
                settle_at = 2 * blocks
    best.settle()
    return best


def _pieces(count: int, queries: int, k: int) -> Iterator[tuple[int, int, int]]:
    """Start, stop and rows of a group of blocks; those that fill no group come one by one."""
    size = max(8 * _GROUP * k, _SCORES // queries) // _GROUP * _GROUP
    grouped = count // _GROUP * _GROUP if count >= 4 * _GROUP * k else 0
    for start in range(0, grouped, size):
        yield start, min(start + size, grouped), _GROUP
    for start in range(grouped, count, size):
        yield start, min(start + size, count), 1


class _Best:
    """The k best rows of every query so far, by float64, and the pairs that may be better."""

    def __init__(self, rows: Tensor, queries: Tensor, k: int, *, unit: bool) -> None:
        self.all_rows, self.unit, self.k = rows, unit, k
        self.queries = queries.double()
        shape = (len(queries), k)
        self.scores = torch.full(shape, -torch.inf, dtype=torch.float64, device=queries.device)
        self.rows = torch.full(shape, len(rows), dtype=torch.long, device=queries.device)
        self.pending = 0
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def offer(self, first: int, found: Tensor, group: int, fast: FastQueries) -> None:
        """Keep the pairs of a block (b, q) of fast scores, from row `first`, that may be best."""
        grouped = found.view(len(found) // group, group, -1)
        highest = grouped.amax(1) if group > 1 else found  # (g, q)
        bar = self.scores[:, -1]
        if first == 0 and len(highest) >= self.k:  # no score is known yet
            top = highest.T.float().topk(self.k, dim=1).values[:, -1]
            bar = torch.maximum(bar, fast.least_score(top))
        floor = fast.floor(bar)
        where, query = (highest >= floor).nonzero(as_tuple=True)
        if group > 1:
            members = grouped[where, :, query]  # (pairs, group)
            pair, member = (members >= floor[query, None]).nonzero(as_tuple=True)
            where, query = where[pair] * group + member, query[pair]
        self._waiting.append((query, where + first))
        self.pending += len(query)

    def settle(self) -> None:
        """Score the waiting pairs in float64 and keep the k best of every query."""
        if not self.pending:
            return
        query = torch.cat([one for one, _ in self._waiting])
        row = torch.cat([one for _, one in self._waiting])
        self._waiting, self.pending = [], 0
        count = len(self.queries)
        each = torch.arange(count, device=query.device).repeat_interleave(self.k)
        score = torch.cat([self.scores.flatten(), self._score(query, row)])
        query, row = torch.cat([each, query]), torch.cat([self.rows.flatten(), row])
        order = row.argsort()
        order = order[score[order].argsort(stable=True, descending=True)]
        order = order[query[order].argsort(stable=True)]
        row, score = row[order], score[order]
        start = torch.searchsorted(query[order], torch.arange(count, device=query.device))
        kept = start[:, None] + torch.arange(self.k, device=query.device)
        self.scores, self.rows = score[kept], row[kept]

    def _score(self, query: Tensor, row: Tensor) -> Tensor:
        """Scores (p,) in float64; of equal rows they are equal, as every sum has one order."""
        step = max(1, _RESCORED // self.queries.shape[1])
        parts = []
        for start in range(0, len(row), step):
            wide = self.all_rows[row[start : start + step].to(self.all_rows.device)]
            wide = wide.to(self.queries.device).double()
            part = (wide * self.queries[query[start : start + step]]).sum(1)
            parts.append(part / torch.linalg.vector_norm(wide, dim=1) if self.unit else part)
        return torch.cat(parts) if parts else self.scores.new_empty(0)
