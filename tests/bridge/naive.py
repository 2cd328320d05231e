"""Losses and hub routing by their formulas, one pair at a time, in Python's floats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bridge.config import TrainSettings
from bridge.training.training_set import FrozenRows

Rows = Sequence[Sequence[float]]
Table = list[list[float]]


def inner(left: Sequence[float], right: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(left, right, strict=True))


def softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    return [power / math.fsum(powers) for power in powers]


def posteriors(items: Rows, hub: Rows, temperature: float) -> Table:
    """`p(t | x)` of every item."""
    return [softmax([inner(item, other) / temperature for other in hub]) for item in items]


def smoothed(own: Table, items: Rows, *, share: float, temperature: float) -> Table:
    """`(1 - share) p(t | x) + share sum_y q(y | x) p(t | y)`."""
    near = posteriors(items, items, temperature)
    columns = [list(column) for column in zip(*own, strict=True)]
    return [
        [
            (1 - share) * p + share * inner(row, column)
            for p, column in zip(mine, columns, strict=True)
        ]
        for mine, row in zip(own, near, strict=True)
    ]


def agreement(left: Table, right: Table) -> Table:
    """`sum_t sqrt(p(t | a) p(t | v))`."""
    return [
        [math.fsum(math.sqrt(p * q) for p, q in zip(a, v, strict=True)) for v in right]
        for a in left
    ]


def soft_targets(frozen: FrozenRows, settings: TrainSettings) -> Table:
    """What routed distillation wants of all leaf items."""
    beliefs = []
    for space in frozen.hub:
        hub, leaf = frozen.hub[space].tolist(), frozen.leaf[space].tolist()
        own = posteriors(leaf, hub, settings.routing_temperature)
        beliefs.append(
            smoothed(
                own, leaf, share=settings.smoothing, temperature=settings.smoothing_temperature
            )
        )
    return [[one**settings.distil_sharpness for one in row] for row in agreement(*beliefs)]


def cross_entropy(queries: Rows, candidates: Rows, targets: Rows, temperature: float) -> float:
    """Mean over the queries, in nats."""
    costs = []
    for query, wanted in zip(queries, targets, strict=True):
        scores = [inner(query, other) / temperature for other in candidates]
        log_sum = math.log(math.fsum(math.exp(score) for score in scores))
        costs.append(log_sum - inner(wanted, scores) / math.fsum(wanted))
    return math.fsum(costs) / len(costs)


def soft_cross_entropy(left: Rows, right: Rows, targets: Rows, temperature: float) -> float:
    """Mean of both directions."""
    flipped = [list(column) for column in zip(*targets, strict=True)]
    there = cross_entropy(left, right, targets, temperature)
    return (there + cross_entropy(right, left, flipped, temperature)) / 2


def partners(items: int) -> Table:
    return [[float(i == j) for j in range(items)] for i in range(items)]


def info_nce(left: Rows, right: Rows, temperature: float) -> float:
    return soft_cross_entropy(left, right, partners(len(left)), temperature)


def cwcl(
    left: Rows, right: Rows, frozen: Rows, temperature: float, sharpness: float, *, symmetric: bool
) -> float:
    """Half the published sum."""
    weights = [[(inner(u, v) / 2 + 0.5) ** sharpness for v in frozen] for u in frozen]
    back = weights if symmetric else partners(len(left))
    there = cross_entropy(left, right, weights, temperature)
    return (there + cross_entropy(right, left, back, temperature)) / 2
