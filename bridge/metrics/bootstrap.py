"""The paired bootstrap: how far a difference of means may lie from zero by chance.

Units are drawn with replacement, as many as there are; a unit is a query, or a cluster of queries
that are not independent of each other and so are drawn as one. All measures see the same draws:
figures of two systems on the same queries are compared query by query.

Axes: u units, n samples, m measures, r resamples, b resamples of one block.
Sources: Efron & Tibshirani, An Introduction to the Bootstrap, 1993 (the percentile interval: §13.3;
as a test: §15.4). Whole clusters: Davison & Hinkley, Bootstrap Methods and their Application, 1997,
§3.8; Field & Welsh, Bootstrapping clustered data, J. R. Statist. Soc. B 69, 2007.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

ONE_TAIL = 40  # one resample in so many lies beyond each end of a 95 % interval
MIN_RESAMPLES = ONE_TAIL - 1
DRAWS_AT_A_TIME = 1 << 20  # of 8 bytes, held about four times


def resampled_counts(
    units: int, *, resamples: int, generator: torch.Generator
) -> Iterator[Float[Tensor, "b u"]]:
    """How often each unit was drawn, in blocks of resamples.

    generator: on the CPU. The draws do not depend on how they are cut into blocks.
    """
    block = max(1, DRAWS_AT_A_TIME // units)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = torch.randint(units, (rows, units), generator=generator)
        cells = drawn + units * torch.arange(rows)[:, None]
        yield cells.flatten().bincount(minlength=rows * units).view(rows, units).double()


def resampled_samples(
    unit: Int[Tensor, " n"], *, resamples: int, generator: torch.Generator
) -> Iterator[Float[Tensor, "b n"]]:
    """How often each sample was drawn with its unit, in blocks of resamples that fit into memory.

    unit: of each sample, numbered from 0 without gaps. generator: as of `resampled_counts`.
    """
    block = max(1, DRAWS_AT_A_TIME // len(unit))
    drawn = resampled_counts(1 + int(unit.max()), resamples=resamples, generator=generator)
    for counts in drawn:
        for start in range(0, len(counts), block):
            yield counts[start : start + block, unit]


def resampled_means(
    totals: Float[Tensor, "u m"],
    sizes: Float[Tensor, "u m"],
    *,
    resamples: int,
    generator: torch.Generator,
) -> Iterator[Float[Tensor, "b m"]]:
    """Means over everything that the drawn units hold, in blocks of resamples.

    totals: sum of each measure over what a unit holds, a query or several.
    sizes: how many each unit holds of what is averaged, at least one.
    generator: on the CPU. The draws do not depend on how they are cut into blocks.
    """
    drawn = resampled_counts(len(totals), resamples=resamples, generator=generator)
    for counts in drawn:
        times = counts.to(totals.dtype)
        yield (times @ totals) / (times @ sizes)


def weighted_median(
    values: Float[Tensor, " n"], counts: Float[Tensor, "r n"]
) -> Float[Tensor, " r"]:
    """Median of the values, each as often as `counts` says: the mean of the middle two if even.

    >>> counts = torch.tensor([[1.0, 1.0, 1.0], [3.0, 0.0, 3.0]])
    >>> weighted_median(torch.tensor([5.0, 1.0, 2.0]), counts)
    tensor([2.0000, 3.5000])
    """
    order = values.argsort(stable=True)
    ordered, times = values[order], counts[:, order].cumsum(dim=1)
    total = times[:, -1:]
    places = torch.cat([((total - 1) / 2).floor(), (total / 2).floor()], dim=1)
    return ordered[torch.searchsorted(times, places, right=True)].mean(dim=1)


def percentile_interval(
    resampled: Float[Tensor, "r *m"],
) -> tuple[Float[Tensor, "*m"], Float[Tensor, "*m"]]:
    """Both ends of the 95 % interval: the k-th smallest and largest, k = floor(0.025 (r + 1)).

    It leaves out zero exactly where `p_value` is at most 0.05. Takes MIN_RESAMPLES or more.

    >>> low, high = percentile_interval(torch.arange(1.0, 80.0))
    >>> low, high
    (tensor(2.), tensor(78.))
    """
    place = (len(resampled) + 1) // ONE_TAIL
    ordered = resampled.sort(dim=0).values
    return ordered[place - 1], ordered[-place]


def p_value(resampled: Float[Tensor, "r *m"]) -> Float[Tensor, "*m"]:
    """Two-sided p of differences: twice the share of resamples at or beyond zero, at most 1.

    The observed sample counts as one resample more, so that p is never zero (Davison & Hinkley
    1997, eq. 4.11).

    >>> p_value(torch.tensor([-1.0, *[1.0] * 98]))
    tensor(0.0400, dtype=torch.float64)
    """
    beyond = torch.minimum((resampled <= 0).sum(dim=0), (resampled >= 0).sum(dim=0))
    return (2 * (beyond.double() + 1) / (len(resampled) + 1)).clamp(max=1)
