"""Softmax weights of the sampled items of a memory that are not among its kept ones.

Axes: n queries, m memory items, s sampled items.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.pseudo_pairs.neighbours import Neighbours
from features.compiled import compiled
from features.cores import in_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_GONE = np.float32(-1e30)  # a score whose weight is 0, and finite
_NONE = np.float32(-126)  # octaves: a weight that counts as 0; that of 126 has an infinite square
_TAYLOR = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(6))  # of 2^x


class Tail(NamedTuple):
    """The sampled items that are not kept: sums of weight, its square, and weight times score."""

    mass: Float[Tensor, "n 1"]
    square: Float[Tensor, " n"]
    moment: Float[Tensor, "n 1"]


def weigh_tail(
    sample: Float[Tensor, "n s"],
    near: Neighbours,
    place: Int[Tensor, " m"],
    best: Float[Tensor, "n 1"],
    *,
    temperature: float,
) -> Tail:
    """Turn float32 scores into `exp((score - best) / temperature)`, 0 where kept, in place.

    place: (m,) int32, where an item is in the sample, -1 if it is not.
    """
    sums, steep = torch.empty(len(sample), 3), np.float32(1 / (temperature * np.log(2)))
    kept = (near.row, near.count, place.numpy())
    scores, highest, found = sample.numpy(), best.numpy(), sums.numpy()
    in_parts(
        lambda start, stop: _weigh_tail(kept, highest, steep, scores, found, start, stop),
        len(scores),
    )
    return Tail(sums[:, :1], sums[:, 1], sums[:, 2:])


@compiled
def _weigh_tail(
    kept: tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]],
    best: Floats,
    steep: np.float32,
    sample: Floats,
    sums: Floats,
    start: int,
    stop: int,
) -> None:
    row, count, place = kept
    items = sample.shape[1]
    octave, bits = np.empty(items, np.float32), np.empty(items, np.int32)
    power = bits.view(np.float32)
    for query in range(start, stop):
        for item in range(count[query]):
            where = place[row[query, item]]
            if where >= 0:
                sample[query, where] = _GONE
        for item in range(items):
            exponent = (sample[query, item] - best[query, 0]) * steep
            octave[item] = min(max(exponent, _NONE), -_NONE)
        for item in range(items):
            whole = np.int32(np.floor(octave[item] + np.float32(0.5)))
            bits[item] = (whole + np.int32(127)) << 23 if octave[item] > _NONE else np.int32(0)
        mass, square, moment = np.float32(0), np.float32(0), np.float32(0)
        for item in range(items):
            # Taylor's series of 2^x up to a half is right to 3e-6.
            part = octave[item] - np.floor(octave[item] + np.float32(0.5))
            series = _TAYLOR[5]
            for term in (4, 3, 2, 1, 0):
                series = series * part + _TAYLOR[term]
            weight = power[item] * series
            mass += weight
            square += weight * weight
            moment += weight * sample[query, item]
            sample[query, item] = weight
        sums[query, 0], sums[query, 1], sums[query, 2] = mass, square, moment
