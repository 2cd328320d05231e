"""Softmax retrieval from a part of a memory, and how parts make the whole.

A part's state is the highest logit, the sum of the exponentials below it, and the weighted sums of
values: what online softmax carries from block to block (Milakov and Gimelshein, arXiv 1805.02867).
Two states merge into that of both parts together,

    b = max(b1, b2),  s = exp(b1 - b) s1 + exp(b2 - b) s2   (mass and sums alike),

which is associative and has the empty part (-inf, 0, 0) as its neutral element. Rounding is not
associative: for the same bits, states are merged in the same order.

Axes: n queries, k items of a block, d dimensions, e of the values. Rows have unit L2 norm. Logits
are cosines over the temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from features.products import product


class Partial(NamedTuple):
    """What some items of a memory hold for queries.

    best: the highest logit, -inf where there was no item. mass: the sum of `exp(logit - best)`.
    sums: that of `exp(logit - best) value`, (n, e) for each table of values.
    """

    best: Float[Tensor, "n 1"]
    mass: Float[Tensor, "n 1"]
    sums: tuple[Tensor, ...]

    @classmethod
    def empty(
        cls, queries: Float[Tensor, "n d"], widths: Sequence[int], dtype: torch.dtype | None = None
    ) -> Partial:
        """Of no items, for values of these widths."""
        n = len(queries)
        return cls(
            queries.new_full((n, 1), -torch.inf, dtype=dtype),
            queries.new_zeros((n, 1), dtype=dtype),
            tuple(queries.new_zeros((n, width), dtype=dtype) for width in widths),
        )

    def add(
        self,
        queries: Float[Tensor, "n d"],
        keys: Float[Tensor, "k d"],
        values: Sequence[Float[Tensor, "k e"]],
        *,
        temperature: float,
        at_once: int,
    ) -> None:
        """Add a block of items, in place, for so many queries at once."""
        # The mass is the sum of values that are all 1.
        columns = [keys.new_ones(1, len(keys)), *(value.T.contiguous() for value in values)]
        for start in range(0, len(queries), at_once):
            some = slice(start, start + at_once)
            sums = [total[some] for total in (self.mass, *self.sums)]
            add_block(queries[some], keys, columns, self.best[some], sums, temperature)

    def merge(self, other: Partial) -> None:
        """Add what other items hold, in place."""
        higher = torch.maximum(self.best, other.best)
        mine, others = (_share(one.best, higher) for one in (self, other))
        pairs = zip((self.mass, *self.sums), (other.mass, *other.sums), strict=True)
        for total, more in pairs:
            total.mul_(mine).add_(more * others)
        self.best.copy_(higher)

    def values(self) -> tuple[Tensor, ...]:
        """The softmax averages of all items that were added, as unit rows."""
        return tuple(F.normalize(total / self.mass, dim=-1) for total in self.sums)


def _share(best: Tensor, higher: Tensor) -> Tensor:
    """`exp(best - higher)`; two parts without items are as high as each other."""
    return torch.where(best == higher, 1, torch.exp(best - higher))


def add_block(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "k d"],
    columns: Sequence[Float[Tensor, "e k"]],
    best: Float[Tensor, "n 1"],
    sums: Sequence[Float[Tensor, "n e"]],
    temperature: float,
) -> None:
    """Add a block of a memory to `sums`, whose highest logit so far is `best`, in place.

    columns: the values, transposed.
    """
    scores = product(queries, keys).div_(temperature)
    higher = torch.maximum(best, scores.amax(dim=1, keepdim=True))
    shrink = torch.exp(best - higher)
    weights = scores.sub_(higher).exp_()
    for total, column in zip(sums, columns, strict=True):
        total.mul_(shrink).add_(product(weights, column))
    best.copy_(higher)
