"""Softmax retrieval that looks closely only at the neighbours that carry the weight.

At C-MCR's temperature of 0.01 a few hundred of a million items carry nearly all of the softmax.
The `kept` nearest are scored in float32 and weighed as the formula has it. The rest, the tail, is
not dropped: a systematic sample of its scores gives its mass `W` and first moment `A = sum_k w_k
s_k`, and its vector is modelled in two ways. Either as the memory at large would have it, `a mu +
b C q` with the memory's mean and second moments, a and b such that W and A come out; or as more
of the kept neighbours' lower half. Which is right (scattered items, or more of one class) the
kept neighbours tell: both models predict their lower half from the upper one, and the tail takes
the mixture that suits this half best.

The sampled items' own vectors, a rough but unbiased picture of the tail, tell where both models
fail; such queries are answered by all items.

Axes: n queries, m memory items, d dimensions, e of the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bridge.neighbours import Blocks, Nearest, find_nearest, spread
from bridge.pseudo_pairs import Rows, retrieve
from features.products import fast_dtype

KEPT = 256
TOLERANCE = 1e-3  # of the cosine
_MOMENT_ROWS = 16_384  # items that mean and second moments are taken from
_MORE = 4  # times as many are kept for queries that this is not enough for
_CAUTION = 0.35  # of the allowed error, as a sample's estimate of it scatters
_MOST_OUTSIDE = 0.2  # of the softmax, that the models of the tail are trusted with
_ROUGH = 0.003  # by which rough scores may be off
_EXACT = 32  # kept items that are scored in float32
_TOGETHER = 32  # queries whose kept items are gathered at once, to stay in the cache
_TINY = 1e-30


class Retrieved(NamedTuple):
    """What a memory holds for queries.

    values: unit rows, one tensor (n, e) for each table of values. outside: (n,), the share of the
    softmax outside of the kept neighbours, estimated. exact: how many queries all items answered.
    """

    values: tuple[Tensor, ...]
    outside: Float[Tensor, " n"]
    exact: int


def retrieve_sparse(
    queries: Float[Tensor, "n d"],
    keys: Rows,
    values: tuple[Rows, ...] = (),
    *,
    temperature: float,
    kept: int = KEPT,
    advance: Callable[[int], None] = lambda _: None,
) -> Retrieved:
    """For every query, `normalize(sum_k softmax_k(q . key_k / temperature) value_k)`.

    keys: unit rows. values: default to the keys. kept: neighbours that are weighed one by one.
    advance: called with the number of queries that are done. The cosine error is below 1e-3
    where the models of the tail hold; `exact` queries where they do not.
    """
    if not len(queries):
        return Retrieved(
            tuple(queries.new_empty(0, value.shape[1]) for value in values or (keys,)),
            queries.new_empty(0),
            0,
        )
    queries = queries.float().contiguous()
    # A file is read once for each block of queries.
    asked = 128 if isinstance(keys, Tensor) else 1024
    if queries.device.type == "cuda":
        asked = 8192
    asked = min(asked, max(1, len(queries)))
    some = _some(keys).to(queries.device).float()
    blocks = Blocks(keys, some, queries=asked)
    memory = _Memory(keys, values or (keys,), some, blocks, temperature)
    found, outside, wrong = memory.retrieve(queries, asked, kept, advance)
    more = _MORE * kept
    if len(wrong) and more < len(keys) // _MORE:
        better, beyond, still = memory.retrieve(queries[wrong], asked, more)
        outside[wrong] = beyond
        for output, rows in zip(found, better, strict=True):
            output[wrong] = rows
        wrong = wrong[still]
    if len(wrong):
        for output, rows in zip(found, memory.exactly(queries[wrong]), strict=True):
            output[wrong] = rows
    return Retrieved(found, outside, len(wrong))


@dataclass
class _Memory:
    """The memory, and what its tail is modelled by."""

    keys: Rows
    values: tuple[Rows, ...]
    some: Tensor
    blocks: Blocks
    temperature: float

    def __post_init__(self) -> None:
        device, some = self.some.device, self.some
        self.dtype = fast_dtype(device)
        self.light = {
            id(table): table.to(device, self.dtype) if isinstance(table, Tensor) else table
            for table in {id(one): one for one in (self.keys, *self.values)}.values()
        }
        self.key_mean = some.mean(dim=0)
        self.key_moments = some.T @ some / len(some)
        self.moments, self.sampled = [], []
        for value in self.values:
            if value is self.keys:
                self.moments.append((self.key_mean, self.key_moments))
            else:
                rows = _some(value).to(device).float()
                self.moments.append((rows.mean(dim=0), some.T @ rows / len(some)))
            parts = [
                _at(value, rows.start + self.blocks.sampled(block))
                for block, rows in enumerate(self.blocks.rows)
            ]
            self.sampled.append(torch.cat(parts).to(device, fast_dtype(device)))

    def retrieve(
        self,
        queries: Tensor,
        asked: int,
        kept: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> tuple[tuple[Tensor, ...], Float[Tensor, " n"], Tensor]:
        """Values, the share outside of the kept, and for which queries the values are wrong."""
        outputs = tuple(queries.new_empty(len(queries), value.shape[1]) for value in self.values)
        outside = queries.new_empty(len(queries))
        wrong = []
        for start in range(0, len(queries), asked):
            block = queries[start : start + asked]
            found, share, failed = self._answer(block, find_nearest(block, self.blocks, kept))
            wrong.append(start + failed)
            for output, rows in zip(outputs, found, strict=True):
                output[start : start + asked] = rows
            outside[start : start + asked] = share
            advance(len(block))
        return outputs, outside, torch.cat(wrong)

    def _answer(
        self, queries: Tensor, near: Nearest
    ) -> tuple[list[Tensor], Float[Tensor, " n"], Tensor]:
        kept = self._weigh(queries, near)
        rate = self.blocks.rate
        tail = torch.exp((near.sample - kept.best) / self.temperature) * self._left(near)
        mass = rate * tail.sum(dim=1, keepdim=True)
        moment = rate * (tail * near.sample).sum(dim=1, keepdim=True)
        noise = rate * tail.square().sum(dim=1)  # of the tail's vector, if its items are scattered
        wrong = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
        background = _Background.of(queries, self.key_mean, self.key_moments)
        found = []
        for (upper, lower), (mean, moments), sampled in zip(
            kept.sums, self.moments, self.sampled, strict=True
        ):
            far = (mean, queries @ moments)
            as_memory = background.vector(kept.lower_mass, kept.lower_moment, *far)
            mix = _mix(lower, as_memory, upper * (kept.lower_mass / kept.upper_mass))
            more = lower * (mass / kept.lower_mass.clamp_min(_TINY))
            modelled = mix * background.vector(mass, moment, *far) + (1 - mix) * more
            total = upper + lower + modelled
            found.append(F.normalize(total, dim=1))
            seen = rate * (tail.to(sampled.dtype) @ sampled).float()
            missed = (seen - modelled).square().sum(dim=1) - 2 * rate * noise
            allowed = 2 * TOLERANCE * total.square().sum(dim=1)
            wrong |= (missed > allowed) | (noise > _CAUTION * allowed)
        share = (mass / (mass + kept.upper_mass + kept.lower_mass)).squeeze(1)
        high = mass * math.exp(min(_ROUGH / self.temperature, 60))
        inside = kept.upper_mass + kept.lower_mass
        wrong |= (high > _MOST_OUTSIDE * (high + inside)).squeeze(1)
        return found, share, wrong.nonzero().squeeze(1)

    def _left(self, near: Nearest) -> Float[Tensor, "n s"]:
        """Which sampled items are in the tail; of those that score as the last kept one, a part."""
        if near.row.shape[1] == len(self.keys):
            return torch.zeros_like(near.sample)
        last = near.last
        level = near.sample == last
        kept = (near.score == last).sum(dim=1, keepdim=True)
        there = self.blocks.rate * level.sum(dim=1, keepdim=True)
        part = (1 - kept / there.clamp_min(1)).clamp_min(0)
        return torch.where(level, part, (near.sample < last).float())

    def _weigh(self, queries: Tensor, near: Nearest) -> _Kept:
        """Exact weights of the kept items, and their sums."""
        scores = torch.empty_like(near.score)
        half = max(1, scores.shape[1] // 2)
        best = queries.new_empty(len(queries), 1)
        sums = [
            tuple(queries.new_empty(len(queries), value.shape[1]) for _ in range(2))
            for value in self.values
        ]
        for start in range(0, len(queries), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            rows = near.row[part]
            keys = self._gathered(self.keys, rows)
            scores[part] = self._scored(queries[part], near.score[part], rows, keys)
            best[part] = scores[part].amax(dim=1, keepdim=True)
            weights = torch.exp((scores[part] - best[part]) / self.temperature).to(keys.dtype)
            for value, (upper, lower) in zip(self.values, sums, strict=True):
                items = keys if value is self.keys else self._gathered(value, rows)
                upper[part] = (weights[:, None, :half] @ items[:, :half]).squeeze(1)
                lower[part] = (weights[:, None, half:] @ items[:, half:]).squeeze(1)
        weights = torch.exp((scores - best) / self.temperature)
        moments = weights * scores.nan_to_num(neginf=0)
        return _Kept(
            best=best,
            upper_mass=weights[:, :half].sum(dim=1, keepdim=True),
            lower_mass=weights[:, half:].sum(dim=1, keepdim=True),
            lower_moment=moments[:, half:].sum(dim=1, keepdim=True),
            sums=sums,
        )

    def _gathered(self, table: Rows, rows: Tensor) -> Tensor:
        light = _at(self.light[id(table)], rows.flatten())
        return light.to(self.some.device, self.dtype).view(*rows.shape, -1)

    def _scored(self, queries: Tensor, rough: Tensor, rows: Tensor, keys: Tensor) -> Tensor:
        """Scores of the kept items; of the best in float32, whatever the fast precision is.

        What the rough score lacks is small, so that little of it is lost when it is rounded.
        """
        near = rough.nan_to_num(neginf=0).to(keys.dtype)[:, None]
        light = queries.to(keys.dtype)[:, None]
        missing = torch.baddbmm(near, light, keys.transpose(1, 2), beta=-1)
        scores = near.float() + missing.float()
        scores = scores.squeeze(1).masked_fill_(rough == -torch.inf, -torch.inf)
        place = scores.topk(min(_EXACT, scores.shape[1]), dim=1).indices
        first = rows.gather(1, place)
        items = _at(self.keys, first.flatten()).to(queries).view(*first.shape, -1)
        exact = (queries[:, None] @ items.transpose(1, 2)).squeeze(1)
        gone = scores.gather(1, place) == -torch.inf
        return scores.scatter_(1, place, exact.masked_fill(gone, -torch.inf))

    def exactly(self, queries: Tensor) -> tuple[Tensor, ...]:
        """The same by all items."""
        return retrieve(queries, self.keys, self.values, temperature=self.temperature)


class _Kept(NamedTuple):
    """The kept items of every query; weights are relative to the best item's, whose score it is."""

    best: Tensor
    upper_mass: Tensor
    lower_mass: Tensor
    lower_moment: Tensor  # the sum of weight times score
    sums: list[tuple[Tensor, ...]]  # of every table of values, of the upper and the lower half


def _some(table: Rows) -> Tensor:
    """Rows that means and second moments are taken from."""
    return _at(table, spread(len(table), max(1, len(table) // _MOMENT_ROWS)))


def _at(table: Rows, rows: Tensor) -> Tensor:
    return table.index_select(0, rows.to(table.device) if isinstance(table, Tensor) else rows)


@dataclass
class _Background:
    """What moments match: `a mean + b moments q` with mass `a + b mean.q` and so on."""

    mean: Tensor  # <q, mu>
    spread: Tensor  # q C q - <q, mu>^2

    @classmethod
    def of(cls, queries: Tensor, mean: Tensor, moments: Tensor) -> _Background:
        along = (queries @ mean)[:, None]
        second = ((queries @ moments) * queries).sum(dim=1, keepdim=True)
        return cls(along, (second - along.square()).clamp_min(1e-6))

    def vector(self, mass: Tensor, moment: Tensor, mean: Tensor, along: Tensor) -> Tensor:
        """Of this mass and first moment, where the values have this mean and these moments."""
        slope = (moment - mass * self.mean) / self.spread
        return (mass - slope * self.mean) * mean + slope * along


def _mix(lower: Tensor, as_memory: Tensor, as_upper: Tensor) -> Float[Tensor, "n 1"]:
    """How much of the first model predicts the lower half best, between 0 and 1."""
    apart = as_memory - as_upper
    size = apart.square().sum(dim=1, keepdim=True).clamp_min(torch.finfo(apart.dtype).tiny)
    return ((lower - as_upper) * apart).sum(dim=1, keepdim=True).div(size).clamp(0, 1)
