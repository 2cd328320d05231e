"""Softmax retrieval from the items that carry weight, with a proven bound on all others.

At low temperatures most items of a memory have next to no weight. Rough scores in bfloat16, whose
error is bounded by the lengths of what rounding took from the rows, say which items can have some:
these are scored, weighed and added in float32. The others are left out, and of the highest weights
w that they can have the sum and the sum of squares are kept. What they would have added is no
longer than

    min(longest * sum w,  sigma * (sum w^2)^(1/2)),

with the longest of the values and sigma, the largest singular value of their table, which is found
from its Gram matrix. If that is x times the length of what was added, the answer is off by an angle
whose sine is at most x, and its cosine error is at most `x^2 / (1 + (1 - x^2)^(1/2))`. Queries for
which this is not below 1e-6 are told, and left to those who take all items.

Axes: n queries, m memory items, k items of a block, d dimensions, e of all tables of values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from bridge.pseudo_pairs.heavy_loops import add_heavy, add_weights, set_levels
from features.cores import on_every_core
from features.products import fast_dtype, product

TOLERANCE = 1e-6  # of the cosine
LEAST_QUERIES, LEAST_ITEMS = 2048, 16_384  # fewer are answered as fast by all items
_LOST = (2 * 0.96 * TOLERANCE) ** 0.5  # of the answer's length; rounding in float32 has the rest
_CAUTION = 0.65  # of it, as the length has to be estimated when items are chosen
_MORE_CAUTION, _FEW = _CAUTION / 10, 64  # for so few queries that fail
_MOST_KEPT = 0.3  # of the items; adding more one by one is slower than multiplying all
_FIRST = 512  # queries that show whether it is worth going on
_QUERIES = 512  # of a core at once, at most
_HELD, _BLOCK = 32_768, 1024  # items whose rough scores are held, and multiplied at once
_EVERY = 8  # items that one stands for when a level is set
_ROUGH = torch.bfloat16
_ROUNDED: float = 2.0**-8  # part of a number that rounding to it changes, at most
_SUMMED: float = 2.0**-23  # part of all terms that a sum in float32 may lose for each of them


def fits_heavy(queries: Tensor, keys: Sized) -> bool:
    """Whether `retrieve_heavy` may be faster: with many rows on a CPU that multiplies bfloat16."""
    here = queries.device.type == "cpu" and queries.dtype == torch.float32
    many = len(queries) >= LEAST_QUERIES and len(keys) >= LEAST_ITEMS
    return here and many and fast_dtype(queries.device) == _ROUGH


def retrieve_heavy(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "m d"],
    values: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    temperature: float,
    advance: Callable[[int], None],
) -> tuple[int, Int[Tensor, " f"]]:
    """Write `normalize(sum_k softmax_k(q . key_k / temperature) value_k)` into `outputs`.

    Returns how many queries were tried, and which of these have no certain answer. Most of them
    are tried unless the first ones show that it takes too many items, as at high temperatures.
    advance: called with numbers of queries that add up to those that were tried.
    """
    memory, first = _Memory(keys, values), min(_FIRST, len(queries))

    def answer(rows: Tensor, go_on: Callable[[], None], caution: float = _CAUTION) -> Tensor:
        done = 0

        def told(items: int) -> None:
            nonlocal done
            go_on()
            before, done = done, len(rows) * items // len(keys)
            if caution == _CAUTION:
                advance(done - before)

        sums = _Sums(queries[rows], memory, temperature, caution)
        sums.add_all(told)
        for output, total in zip(outputs, sums.tables(), strict=True):
            output[rows] = F.normalize(total, dim=1)
        return rows[~sums.certain()]

    wrong = torch.cat(on_every_core(answer, _cut(0, first)))
    if 2 * len(wrong) > first:
        return first, wrong
    wrong = torch.cat([wrong, *on_every_core(answer, _cut(first, len(queries)))])
    if 0 < len(wrong) <= _FEW:
        (wrong,) = on_every_core(lambda rows, go_on: answer(rows, go_on, _MORE_CAUTION), [wrong])
    return len(queries), wrong


def _cut(start: int, stop: int) -> list[Tensor]:
    """As many even parts for every core."""
    cores, rows = torch.get_num_threads(), stop - start
    parts = cores * max(1, -(-rows // (cores * _QUERIES)))
    each = torch.split(torch.arange(start, stop), max(1, -(-rows // parts)))
    return [part for part in each if len(part)]


@dataclass
class _Measures:
    """Of a table: the longest row of each block, the most that rounding takes of one, and sigma."""

    longest: list[float]
    lost: list[float]
    widest: float

    @classmethod
    def of(cls, table: Tensor) -> _Measures:
        share = -(-len(table) // torch.get_num_threads())
        share += -share % _BLOCK
        parts = on_every_core(_measured, torch.split(table, share))
        longest, lost, grams, sizes = zip(*parts, strict=True)
        lengths, each = torch.cat(longest), torch.cat(lost)

        def widest(_start: int, _go_on: Callable[[], None]) -> float:
            return _widest(sum(grams), sum(sizes), lengths, each)

        # Cores that share so small a matrix wait for each other for most of the time.
        (found,) = on_every_core(widest, [0])
        return cls(_highest(lengths), _highest(each), found)


def _measured(table: Tensor, go_on: Callable[[], None]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lengths of rows, lengths of what rounding takes from them, Gram matrix, and its size."""
    lengths, lost = [], []
    gram = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64)
    size = torch.zeros_like(gram)
    for rows in torch.split(table, _BLOCK):
        go_on()
        light = rows.to(_ROUGH)
        lengths.append(torch.linalg.vector_norm(rows.float(), dim=1))
        lost.append(torch.linalg.vector_norm(rows.float() - light.float(), dim=1))
        columns = light.T.contiguous()
        more = product(columns, columns).double()
        gram, size = gram.add_(more), size.add_(more.abs())
    return torch.cat(lengths), torch.cat(lost), gram, size


def _highest(each: Tensor) -> list[float]:
    """Of every block."""
    return [float(block.max()) for block in torch.split(each, _BLOCK)]


def _widest(gram: Tensor, size: Tensor, lengths: Tensor, lost: Tensor) -> float:
    """At least the largest singular value of a table, from what `_measured` gives."""
    # Products are rounded by this part of their size, after sums over the rows of a block; what
    # rounding took from the rows widens the table by no more than its root of squares.
    around = _ROUNDED * torch.linalg.matrix_norm(size)
    around += _BLOCK * _SUMMED * lengths.double().square().sum()
    if not around.isfinite():
        return torch.inf
    highest = torch.linalg.eigvalsh(gram)[-1] + around
    return float(highest.clamp_min(0).sqrt() + torch.linalg.vector_norm(lost.double()))


class _Memory:
    """Tables, and what bounds them."""

    def __init__(self, keys: Tensor, values: Sequence[Tensor]) -> None:
        self.keys, self.values = keys, values
        measures = {id(table): _Measures.of(table) for table in (keys, *values)}
        self.of_keys = measures[id(keys)]
        self.of_values = [measures[id(value)] for value in values]

    def block(self, start: int) -> tuple[Tensor, Tensor]:
        """Keys, and all values side by side."""
        part = slice(start, start + _BLOCK)
        keys = self.keys[part].float().contiguous()
        if len(self.values) == 1 and self.values[0] is self.keys:
            return keys, keys
        return keys, torch.cat([value[part].float() for value in self.values], dim=1)


class _Sums:
    """Running sums of some queries, relative to the best item's weight.

    sums: (n, e) of weight times value. left: (n, 2), at least the sum of the weights that were left
    out, and of their squares.
    """

    def __init__(
        self,
        queries: Float[Tensor, "n d"],
        memory: _Memory,
        temperature: float,
        caution: float = _CAUTION,
    ) -> None:
        self.queries, self.memory, self.temperature = queries, memory, temperature
        self.caution = caution
        n, self.widths = len(queries), [value.shape[1] for value in memory.values]
        self.light = queries.to(_ROUGH)
        self.size: Tensor = torch.linalg.vector_norm(self.light.float(), dim=1)
        self.lost: Tensor = torch.linalg.vector_norm(queries - self.light, dim=1)
        self.sums, self.left = torch.zeros(n, sum(self.widths)), torch.zeros(n, 2)
        self.best = torch.full((n,), -torch.inf)
        # Of all items so far, about: the sums of weight times score, and of squared weight.
        self.top, self.seen = self.best.clone(), torch.zeros(n, 2)

    def add_all(self, told: Callable[[int], None]) -> None:
        """Add the whole memory. told: called with how many items are done."""
        items = len(self.memory.keys)
        for start in range(0, items, _HELD):
            stop = min(start + _HELD, items)
            starts = range(start, stop, _BLOCK)
            rough = [self._rough(one) for one in starts]
            level = self._level(rough, stop)
            before, tail = self.best.clone(), torch.zeros_like(self.left)
            for one, scores in zip(starts, rough, strict=True):
                keys, values = self.memory.block(one)
                add_heavy(
                    scores.view(torch.int16).numpy(),
                    (self.queries.numpy(), level.numpy(), self._doubt(one).numpy()),
                    keys.numpy(), values.numpy(), np.float32(self.temperature),
                    self.best.numpy(), self.sums.numpy(), tail.numpy(),
                )  # fmt: skip
            self.left = self._share(before, self.best) * self.left
            self.left += self._share(level, self.best) * tail
            told(stop)

    def tables(self) -> tuple[Tensor, ...]:
        """The sums of each table of values."""
        return torch.split(self.sums, self.widths, dim=1)

    def certain(self) -> Bool[Tensor, " n"]:
        """Whose sums are within the tolerance."""
        single, double = self.left[:, 0], self.left[:, 1].sqrt()
        sure = torch.ones(len(self.queries), dtype=torch.bool)
        for total, known in zip(self.tables(), self.memory.of_values, strict=True):
            lost = torch.minimum(max(known.longest) * single, known.widest * double)
            sure &= lost <= _LOST * torch.linalg.vector_norm(total, dim=1)
        return sure

    def _rough(self, start: int) -> Tensor:
        keys = self.memory.keys[start : start + _BLOCK]
        return product(self.light, keys.to(_ROUGH)).contiguous()

    def _doubt(self, start: int) -> Float[Tensor, " n"]:
        """By how much a rough score may be too low, beside its own rounding."""
        known, block = self.memory.of_keys, start // _BLOCK
        summing = self.queries.shape[1] * _SUMMED
        longest, lost = known.longest[block], known.lost[block]
        return self.lost * longest + self.size * (lost + summing * longest)

    def _level(self, rough: Sequence[Tensor], seen: int) -> Float[Tensor, " n"]:
        """Scores below which items may be left out; infinity where too many are above."""
        items, before = len(self.memory.keys), self.top
        for scores in rough:
            self.top = torch.maximum(self.top, scores.amax(dim=1).float())
        self.seen *= self._share(before, self.top)
        steep = np.float32(1 / (self.temperature * np.log(2)))
        for scores in rough:
            add_weights(
                scores.view(torch.int16).numpy(), self.top.numpy(), steep, self.seen.numpy()
            )
        moment, square = self.seen.unbind(1)
        # Of scattered values the second part, of like ones the first. It will grow with the items,
        # but not by as much where one of them is most of it.
        length = ((moment.square() + square) * (items / seen)).sqrt()
        allowed = self.caution * _LOST * length
        some = torch.cat([scores[:, ::_EVERY] for scores in rough], dim=1).float()
        doubt = self._doubt(0) - self.top
        weights = some.add(doubt[:, None]).div_(self.temperature).exp_()
        level, share = torch.empty_like(self.top), torch.empty_like(self.top)
        widest = max(known.widest for known in self.memory.of_values)
        set_levels(
            some.numpy(), weights.numpy(), self.top.numpy(), allowed.numpy(),
            np.float32(items / some.shape[1]), np.float32(widest), level.numpy(), share.numpy(),
        )  # fmt: skip
        return torch.where(share <= _MOST_KEPT, level, torch.inf)

    def _share(self, score: Tensor, higher: Tensor) -> Float[Tensor, "n 2"]:
        """`exp((score - higher) / temperature)`, and its square."""
        apart = (score - higher).masked_fill_(score == higher, 0)
        powers = torch.tensor([1.0, 2.0]) / self.temperature
        return torch.exp(apart[:, None] * powers)
