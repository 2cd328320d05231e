"""How sure the differences between bridges are, by a paired bootstrap over their queries.

Axes: q queries of a direction that have a right item, u units to draw from, m measures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.evaluation.retrieval import Relevance
from bridge.metrics.bootstrap import p_value, percentile_interval, resampled_means
from bridge.metrics.retrieval import PerQuery
from features.progress import Advance, Progress

# With 5 to 30 clusters, tests find differences that are not there (Cameron, Gelbach & Miller,
# Bootstrap-based improvements for inference with clustered errors, 2008).
FEW = 20
# What is tested, for every query: whether it finds a right item first, and average precision.
MEASURES: tuple[Callable[[PerQuery], Tensor], ...] = (
    lambda queries: (queries.ranks == 1).double(),
    lambda queries: queries.precisions.double(),
)


class FewResampled(UserWarning):
    """There is so little to draw from that intervals are too narrow, and p too small."""


@dataclass(frozen=True)
class Difference:
    """A bridge's figure less that of the first bridge.

    low, high: its 95 % interval. p_value: two-sided; with many bridges or figures, some are small
    by chance alone: they are not corrected for that.
    """

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class RetrievalDifference:
    """Differences of what `Retrieval` says; `recall` has R@1 alone."""

    recall: dict[int, Difference]
    mean_average_precision: Difference


@dataclass(frozen=True)
class CrossModalDifference:
    """Differences of one bridge to the first: each direction, and the mean of both."""

    mean: RetrievalDifference
    forward: RetrievalDifference
    backward: RetrievalDifference


@dataclass(frozen=True)
class Units:
    """What the bootstrap draws: `classes`, `items` or `queries`; see `compare_retrieval`.

    forward, backward: number of the unit of every query that has a right item.
    """

    kind: str
    forward: Int[Tensor, " q"]
    backward: Int[Tensor, " p"]

    @property
    def counts(self) -> tuple[int, int]:
        """How many units there are, forward and backward."""
        return 1 + int(self.forward.max()), 1 + int(self.backward.max())


def units_of(relevance: Relevance, both: tuple[PerQuery, PerQuery]) -> Units:
    """What there is to draw from; `both` are any bridge's figures, forward and backward.

    Warns with FewResampled if it is less than FEW.
    """
    # A class with answerable queries in one direction has some in the other, so that the classes
    # of both directions get the same numbers.
    units = Units(
        "items" if relevance.kind == "ids" else "classes",
        _numbered(relevance.query[both[0].answerable]),
        _numbered(relevance.gallery[both[1].answerable]),
    )
    if units.kind == "classes" and units.counts[0] < FEW:
        forward, backward = (torch.arange(len(one.ranks)) for one in both)
        units = Units("queries", forward, backward)
    if min(units.counts) < FEW:
        warnings.warn(
            f"there are only {min(units.counts)} {units.kind} to draw from, fewer than {FEW}: take "
            "intervals as too narrow and p as too small",
            FewResampled,
            stacklevel=3,
        )
    return units


def _numbered(classes: Int[Tensor, " q"]) -> Int[Tensor, " q"]:
    """The same classes, numbered without gaps."""
    return ((classes.bincount() > 0).cumsum(dim=0) - 1)[classes]


def differences(
    measured: Sequence[tuple[PerQuery, PerQuery]],
    units: Units,
    *,
    resamples: int,
    generator: torch.Generator,
    progress: Progress,
) -> list[CrossModalDifference]:
    """Of every bridge after the first to the first, from the figures of all bridges' queries."""
    shape = (2, len(measured) - 1, len(MEASURES))  # directions, bridges, measures
    draws = [
        _by_unit(_paired([both[direction] for both in measured]), unit)
        for direction, unit in enumerate((units.forward, units.backward))
    ]
    if units.kind != "queries":  # one draw for both directions
        draws = [_side_by_side(draws)]
    drawn = []
    with progress.task("resample", resamples * len(draws), unit="resamples") as advance:
        for totals, sizes in draws:
            blocks = resampled_means(totals, sizes, resamples=resamples, generator=generator)
            drawn.append(torch.cat(list(_watched(blocks, advance))))
    observed = torch.cat([totals.sum(dim=0) / sizes.sum(dim=0) for totals, sizes in draws])
    value = _mean_first(observed.view(shape))
    resampled = _mean_first(torch.cat(drawn, dim=1).view(resamples, *shape))
    tested = torch.stack([value, *percentile_interval(resampled), p_value(resampled)])
    return [
        CrossModalDifference(*(_difference(tested[:, which, i]) for which in range(3)))
        for i in range(shape[1])
    ]


def _paired(queries: Sequence[PerQuery]) -> Float[Tensor, "q m"]:
    """What every query gains on the first bridge, by bridge and then by measure."""
    figures = [torch.stack([measure(one) for measure in MEASURES], dim=1) for one in queries]
    return torch.cat([one - figures[0] for one in figures[1:]], dim=1)


def _by_unit(
    values: Float[Tensor, "q m"], unit: Int[Tensor, " q"]
) -> tuple[Float[Tensor, "u m"], Float[Tensor, "u m"]]:
    """Sums over the queries of each unit, and how many they are."""
    empty = values.new_zeros(1 + int(unit.max()), values.shape[1])
    return empty.index_add(0, unit, values), empty.index_add(0, unit, torch.ones_like(values))


def _side_by_side(draws: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Totals and sizes of the same units in both directions, as measures of one draw."""
    return (
        torch.cat([totals for totals, _ in draws], dim=1),
        torch.cat([sizes for _, sizes in draws], dim=1),
    )


def _watched(blocks: Iterable[Tensor], advance: Advance) -> Iterator[Tensor]:
    for block in blocks:
        advance(len(block))
        yield block


def _mean_first(directions: Float[Tensor, "*r 2 bridges m"]) -> Float[Tensor, "*r 3 bridges m"]:
    return torch.cat([directions.mean(dim=-3, keepdim=True), directions], dim=-3)


def _difference(tested: Float[Tensor, "4 m"]) -> RetrievalDifference:
    recall, precision = (Difference(*column) for column in tested.T.tolist())
    return RetrievalDifference({1: recall}, precision)
