"""Loops over rough scores, and over the few items that may carry weight.

Rough scores are bits of bfloat16. Powers of two are made by shifting: between whole exponents they
are those of the chord, so at least the true ones, and at most 1.07 times them.

Axes: n queries, k items of a block, d dimensions, e of the values, s items that stand for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from features.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Halves = NDArray[np.int16]  # bits of bfloat16
    Words = NDArray[np.int32]  # bits of float32
    Flags = NDArray[np.int8]
    Places = NDArray[np.int64]

_PIECE = 512  # items that stay in a core's cache
_STEP = np.float32(2.0**-8)  # what rounding to bfloat16 changes of a number, at most
_LOWEST = np.float32(-126)  # of float32's exponents
_HIGHEST = np.float32(60)  # whose square is a float32
_HALVINGS = 12


@compiled
def add_weights(rough: Halves, top: Floats, steep: np.float32, sums: Floats) -> None:
    """Add w * score and w^2 of all items to (n, 2) `sums`; w is about 2^(steep * (score - top))."""
    words, bits = np.empty(rough.shape[1], np.int32), np.empty(rough.shape[1], np.int32)
    score, weight = words.view(np.float32), bits.view(np.float32)
    for query in range(len(rough)):
        _widen(rough[query], words)
        for item in range(len(words)):
            bits[item] = _power((score[item] - top[query]) * steep)
        moment, square = np.float32(0), np.float32(0)
        for item in range(len(words)):
            moment += weight[item] * score[item]
            square += weight[item] * weight[item]
        sums[query, 0] += moment
        sums[query, 1] += square


@compiled
def set_levels(
    scores: Floats,
    weights: Floats,
    top: Floats,
    allowed: Floats,
    rate: np.float32,
    widest: np.float32,
    level: Floats,
    share: Floats,
) -> None:
    """Find the highest `level` up to `top` below which all weights together are `allowed`.

    rate: items that one stands for. widest: by how much a root of squares counts more than a sum.
    share: of the items that are not below.
    """
    for query in range(len(scores)):
        low, high = np.float32(-1.1), top[query]
        for _ in range(_HALVINGS):
            middle = (low + high) / np.float32(2)
            mass, square = np.float32(0), np.float32(0)
            for item in range(scores.shape[1]):
                weight = weights[query, item] if scores[query, item] < middle else np.float32(0)
                mass += weight
                square += weight * weight
            if min(rate * mass, widest * np.sqrt(rate * square)) <= allowed[query]:
                low = middle
            else:
                high = middle
        level[query] = low
        below = 0
        for item in range(scores.shape[1]):
            below += scores[query, item] < low
        share[query] = np.float32(1 - below / scores.shape[1])


@compiled
def add_heavy(
    rough: Halves,
    asked: tuple[Floats, Floats, Floats],
    keys: Floats,
    values: Floats,
    temperature: np.float32,
    best: Floats,
    sums: Floats,
    tail: Floats,
) -> None:
    """Add `exp((score - best) / temperature) value` of the items that may reach a query's level.

    asked: queries, their levels, and by how much a rough score may be too low beside its own
    rounding. best: the highest score so far; `sums` shrink where it rises. tail: (n, 2); of all
    other items, w and w^2 are added, where w is the highest `exp((score - level) / temperature)`
    that the item can have.
    """
    queries, level, doubt = asked
    steep = np.float32(1 / (temperature * np.log(2.0)))
    words, bits = np.empty(_PIECE, np.int32), np.empty(_PIECE, np.int32)
    flags, picked = np.empty(_PIECE, np.int8), np.zeros(_PIECE + 3, np.int64)
    lowest = -np.float32(np.inf)
    for first in range(0, len(keys), _PIECE):
        for query in range(len(queries)):
            some, above = rough[query, first : first + _PIECE], doubt[query] - level[query]
            count = _pick(some, above, steep, words, bits, flags, picked, tail[query])
            for place in range(0, count, 4):  # what is read once from the cache is used four times
                a, b = first + picked[place], first + picked[place + 1]
                c, e = first + picked[place + 2], first + picked[place + 3]
                one, two, three, four = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                for axis in range(keys.shape[1]):
                    asks = queries[query, axis]
                    one += asks * keys[a, axis]
                    two += asks * keys[b, axis]
                    three += asks * keys[c, axis]
                    four += asks * keys[e, axis]
                two = two if place + 1 < count else lowest
                three = three if place + 2 < count else lowest
                four = four if place + 3 < count else lowest
                top = max(max(one, two), max(three, four))
                if top > best[query]:
                    shrink = np.exp((best[query] - top) / temperature)
                    for axis in range(sums.shape[1]):
                        sums[query, axis] *= shrink
                    best[query] = top
                top = best[query]
                one, two = np.exp((one - top) / temperature), np.exp((two - top) / temperature)
                three = np.exp((three - top) / temperature)
                four = np.exp((four - top) / temperature)
                for axis in range(values.shape[1]):
                    sums[query, axis] += (
                        one * values[a, axis]
                        + two * values[b, axis]
                        + three * values[c, axis]
                        + four * values[e, axis]
                    )


@compiled
def _pick(
    rough: Halves,
    above: np.float32,
    steep: np.float32,
    words: Words,
    bits: Words,
    flags: Flags,
    picked: Places,
    tail: Floats,
) -> int:
    """How many items may reach the level, and which; the tail gets the others' weights."""
    score, weight = words.view(np.float32), bits.view(np.float32)
    _widen(rough, words)
    for item in range(len(rough)):
        score[item] = (score[item] + _STEP * abs(score[item]) + above) * steep
    for item in range(len(rough)):
        flags[item] = not score[item] < 0  # nor is what is no number below
    count = 0
    for item in range(len(rough)):  # without a branch, which would be guessed wrongly
        picked[count] = item
        count += flags[item]
    for item in range(len(rough)):
        bits[item] = _power(score[item]) if score[item] < 0 else np.int32(0)
    mass, square = np.float32(0), np.float32(0)
    for item in range(len(rough)):
        mass += weight[item]
        square += weight[item] * weight[item]
    tail[0] += mass
    tail[1] += square
    for more in range(count, count + 3):
        picked[more] = picked[max(0, count - 1)]
    return count


@compiled
def _widen(halves: Halves, words: Words) -> None:
    for item in range(len(halves)):
        words[item] = np.int32(halves[item]) << 16


@compiled
def _power(octaves: np.float32) -> np.int32:
    limited = min(max(octaves, _LOWEST), _HIGHEST)
    return np.int32(limited * np.float32(2**23)) + np.int32(127 << 23)
