"""Softmax retrieval that looks closely only at the neighbours that carry the weight.

At C-MCR's temperature of 0.01 a few hundred of a million items carry nearly all of the softmax.
About `kept` of the nearest are weighed one by one. The rest, the tail, is not dropped: a
systematic sample of its scores gives its mass `W` and first moment `A = sum_k w_k s_k`, and its
vector is modelled in two ways. Either as the memory at large would have it, `a mu + b C q` with
the memory's mean and second moments, a and b such that W and A come out; or as more of the kept
neighbours' lower half. Which is right (scattered items, or more of one class) the kept neighbours
tell: both models predict their lower half from the upper one, and the tail takes the mixture that
suits this half best.

The sampled items' own vectors, a rough but unbiased picture of the tail, tell where both models
fail; such queries are answered by all items.

It is made for CPUs: elsewhere the products that it saves cost less than what it does instead.

Axes: n queries, m memory items, d dimensions, e of the values, s sampled items.
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

from bridge.pseudo_pairs.exact import retrieve
from bridge.pseudo_pairs.neighbours import find_neighbours, spread
from bridge.pseudo_pairs.tail import weigh_tail
from bridge.pseudo_pairs.weighing import Table, weigh
from features.cores import on_every_core
from features.products import fast_dtype, product

KEPT = 288
TOLERANCE = 1e-3  # of the cosine
_MOMENT_ROWS = 16_384  # items that mean and second moments are taken from
_LEAST_RATE, _MOST_SAMPLED = 16, 16_384  # of the items whose scores are sampled
_MORE = 4  # times as many are kept for queries that this is not enough for
_CAUTION = 0.35  # of the allowed error, as a sample's estimate of it scatters
_MOST_OUTSIDE = 0.2  # of the softmax, that the models of the tail are trusted with
_ROUGH = 0.001  # by which sampled scores may be off
_AT_ONCE = 512  # queries
_FIRST = 512  # queries that show whether it is worth going on
_SCORES = 1 << 23  # sampled scores held at once: larger tables go back to the system each time
_TINY = 1e-30


class Retrieved(NamedTuple):
    """What a memory holds for queries.

    values: unit rows, one tensor (n, e) for each table of values. outside: (n,), the share of the
    softmax outside of the kept neighbours, estimated. exact: how many queries all items answered.
    """

    values: tuple[Tensor, ...]
    outside: Float[Tensor, " n"]
    exact: int

    def told(self) -> str:
        """How good it is, in a line."""
        return (
            f"sparse retrieval: about {float(self.outside.mean()):.1%} of the softmax is outside "
            f"of the nearest items (at most {float(self.outside.max()):.1%}) and comes from a "
            f"model; all items answered {self.exact:,} of {len(self.outside):,} queries"
        )


def retrieve_sparse(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "m d"],
    values: tuple[Tensor, ...] = (),
    *,
    temperature: float,
    kept: int = KEPT,
    advance: Callable[[int], None] = lambda _: None,
) -> Retrieved:
    """For every query, `normalize(sum_k softmax_k(q . key_k / temperature) value_k)`.

    All tensors are on the CPU. keys: unit rows. values: default to the keys. kept: neighbours that
    are weighed one by one, about. advance: called with the number of queries that are done. The
    cosine error is below 1e-3 where the models of the tail hold; `exact` queries where they do not.
    """
    wide = keys.float()
    values = tuple(wide if value is keys else value.float() for value in values) or (wide,)
    queries, keys = queries.float().contiguous(), wide
    if not len(queries):
        none = tuple(queries.new_empty(0, value.shape[1]) for value in values)
        return Retrieved(none, queries.new_empty(0), 0)
    memory = _Memory(keys, values, temperature)
    found, share, wrong = memory.retrieve(queries[:_FIRST], kept, advance)
    rest = queries[_FIRST:]
    hopeless = 2 * len(wrong) > _FIRST  # such as where the temperature is high
    if len(rest):
        if hopeless:
            made = tuple(rest.new_empty(len(rest), one.shape[1]) for one in values)
            beyond, failed = share.median().expand(len(rest)), torch.arange(len(rest))
        else:
            made, beyond, failed = memory.retrieve(rest, kept, advance)
        found = tuple(torch.cat(both) for both in zip(found, made, strict=True))
        share, wrong = torch.cat([share, beyond]), torch.cat([wrong, _FIRST + failed])
    more = _MORE * kept
    if len(wrong) and not hopeless and more < len(keys) // _MORE:
        better, beyond, still = memory.retrieve(queries[wrong], more, advance)
        share[wrong] = beyond
        for output, rows in zip(found, better, strict=True):
            output[wrong] = rows
        wrong = wrong[still]
    if len(wrong):
        exactly = retrieve(queries[wrong], keys, values, temperature=temperature, advance=advance)
        for output, rows in zip(found, exactly, strict=True):
            output[wrong] = rows
    return Retrieved(found, share, len(wrong))


class _Moments(NamedTuple):
    """Of a table of values: its mean, and `sum_k key_k value_k^T / m`."""

    mean: Float[Tensor, " e"]
    with_keys: Float[Tensor, "d e"]


class _Memory:
    """The memory, and what its tail is modelled by."""

    def __init__(self, keys: Tensor, values: tuple[Tensor, ...], temperature: float) -> None:
        self.temperature, self.dtype = temperature, fast_dtype(keys.device)
        some = spread(len(keys), max(1, len(keys) // _MOMENT_ROWS))
        few = keys[some]
        self.keys = Table.of(keys, few.mean(dim=0))
        self.rate = max(_LEAST_RATE, -(-len(keys) // _MOST_SAMPLED))
        rows = spread(len(keys), self.rate)
        self.place = torch.full((len(keys),), -1, dtype=torch.int32)
        self.place[rows] = torch.arange(len(rows), dtype=torch.int32)
        self.sampled_keys = keys[rows].to(self.dtype)
        self.key_moments = _Moments(few.mean(dim=0), self._products(few, few))
        self.values, self.moments, self.sampled = [], [], []
        for value in values:
            own = value is keys
            part = few if own else value[some].float()
            mean = part.mean(dim=0)
            self.values.append(self.keys if own else Table.of(value, mean))
            self.moments.append(
                self.key_moments if own else _Moments(mean, self._products(few, part))
            )
            self.sampled.append(self.sampled_keys if own else value[rows].to(self.dtype))

    def retrieve(
        self, queries: Tensor, kept: int, advance: Callable[[int], None] = lambda _: None
    ) -> tuple[tuple[Tensor, ...], Float[Tensor, " n"], Tensor]:
        """Values, the share outside of the kept, and for which queries the values are wrong."""
        outputs = tuple(queries.new_empty(len(queries), one.rows.shape[1]) for one in self.values)
        share = queries.new_empty(len(queries))
        share_of_core = -(-len(queries) // torch.get_num_threads())
        most = min(_AT_ONCE, _SCORES // len(self.sampled_keys))
        block = max(64, -(-share_of_core // -(-share_of_core // most)))  # as many for every core

        def answer(start: int, go_on: Callable[[], None]) -> Tensor:
            go_on()
            part = slice(start, start + block)
            found, share[part], failed = self._answer(queries[part], kept)
            for output, rows in zip(outputs, found, strict=True):
                output[part] = rows
            advance(len(queries[part]) - len(failed))
            return start + failed

        wrong = on_every_core(answer, range(0, len(queries), block))
        return outputs, share, torch.cat(wrong)

    def _answer(
        self, queries: Tensor, kept: int
    ) -> tuple[list[Tensor], Float[Tensor, " n"], Tensor]:
        sample = product(queries.to(self.dtype), self.sampled_keys)
        near = find_neighbours(queries, self.keys.rows, self.keys.levels, sample, kept)
        weighed = weigh(queries, self.keys, self.values, near, temperature=self.temperature)
        upper_mass, lower_mass = weighed.mass[:, :1], weighed.mass[:, 1:]
        lower_moment = weighed.moment[:, 1:]
        sample = sample.float()
        tail = weigh_tail(sample, near, self.place, weighed.best, temperature=self.temperature)
        mass, moment = self.rate * tail.mass, self.rate * tail.moment
        noise = self.rate * tail.square  # if it is scattered
        light = sample.to(self.dtype)
        wrong = ~torch.from_numpy(near.complete)
        along = queries @ self.key_moments.with_keys
        background = _Background.of(queries, self.key_moments.mean, along)
        found = []
        for sums, moments, sampled in zip(weighed.sums, self.moments, self.sampled, strict=True):
            upper, lower = sums.unbind(1)
            own = moments is self.key_moments
            far = (moments.mean, along if own else queries @ moments.with_keys)
            as_memory = background.vector(lower_mass, lower_moment, *far)
            mix = _mix(lower, as_memory, upper * (lower_mass / upper_mass))
            more = lower * (mass / lower_mass.clamp_min(_TINY))
            modelled = mix * background.vector(mass, moment, *far) + (1 - mix) * more
            total = upper + lower + modelled
            found.append(F.normalize(total, dim=1))
            seen = self.rate * (light @ sampled).float()
            missed = (seen - modelled).square().sum(dim=1) - 2 * self.rate * noise
            allowed = 2 * TOLERANCE * total.square().sum(dim=1)
            wrong |= ~((missed <= allowed) & (noise <= _CAUTION * allowed))
        inside = upper_mass + lower_mass
        high = mass * math.exp(min(_ROUGH / self.temperature, 60))
        wrong |= ~(high <= _MOST_OUTSIDE * (high + inside)).squeeze(1)
        share = torch.where(inside > 0, mass / (mass + inside), 1)
        return found, share.squeeze(1), wrong.nonzero().squeeze(1)

    def _products(self, rows: Tensor, others: Tensor) -> Tensor:
        return (rows.T.to(self.dtype) @ others.to(self.dtype)).float() / len(rows)


@dataclass
class _Background:
    """What moments match: `a mean + b moments q` with mass `a + b mean.q` and so on."""

    mean: Tensor  # <q, mu>
    spread: Tensor  # q C q - <q, mu>^2

    @classmethod
    def of(cls, queries: Tensor, mean: Tensor, moments: Tensor) -> _Background:
        """mean: of the keys. moments: their second moments, times the queries."""
        first = (queries @ mean)[:, None]
        second = (moments * queries).sum(dim=1, keepdim=True)
        return cls(first, (second - first.square()).clamp_min(1e-6))

    def vector(self, mass: Tensor, moment: Tensor, mean: Tensor, along: Tensor) -> Tensor:
        """Of this mass and first moment, where the values have this mean and these moments."""
        slope = (moment - mass * self.mean) / self.spread
        return (mass - slope * self.mean) * mean + slope * along


def _mix(lower: Tensor, as_memory: Tensor, as_upper: Tensor) -> Float[Tensor, "n 1"]:
    """How much of the first model predicts the lower half best, between 0 and 1."""
    apart = as_memory - as_upper
    size = apart.square().sum(dim=1, keepdim=True).clamp_min(torch.finfo(apart.dtype).tiny)
    return ((lower - as_upper) * apart).sum(dim=1, keepdim=True).div(size).clamp(0, 1)
