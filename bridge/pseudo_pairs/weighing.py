"""Softmax weights of the kept items of a memory, and the sums of their values.

Items that carry much of the weight are scored and added in float32, the many others by their
bytes (`features.search.rough.Levels`), of which a cache holds four times as many.

Axes: n queries, m memory items, d dimensions, e of the values, c kept items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bridge.pseudo_pairs.neighbours import Neighbours
from features.compiled import compiled
from features.cores import in_parts
from features.search.rough import MIDDLE, Levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bytes = NDArray[np.uint8]
    Flags = NDArray[np.bool_]

_HEAVY = 1 / 64  # of the weight: more is added in float32
_SURE = 4.0  # standard deviations of a score by bytes


@dataclass(frozen=True)
class Table:
    """Rows in float32, and in bytes."""

    rows: Float[Tensor, "m d"]
    levels: Levels

    @classmethod
    def of(cls, rows: Tensor, mean: Float[Tensor, " d"]) -> Table:
        """mean: about that of the rows."""
        rows = rows.float().contiguous()
        return cls(rows, Levels.of(rows, mean.float()))


@dataclass(frozen=True)
class Weighed:
    """The kept items of queries, with weights that are relative to the best item's.

    best: (n, 1), the highest score, 1 where nothing is kept. mass and moment: (n, 2), the sums of
    the weights, and of weight times score, of the upper and of the lower half: of the items that
    score above and below a query's mean. sums: (n, 2, e) of weight times value, of every table of
    values.
    """

    best: Float[Tensor, "n 1"]
    mass: Float[Tensor, "n 2"]
    moment: Float[Tensor, "n 2"]
    sums: list[Float[Tensor, "n 2 e"]]


def weigh(
    queries: Float[Tensor, "n d"],
    keys: Table,
    values: Sequence[Table],
    near: Neighbours,
    *,
    temperature: float,
) -> Weighed:
    """Weigh the kept items by `exp((q . k - best) / temperature)`, and add their values."""
    n, most = near.row.shape
    levels = keys.levels
    scaled = queries * levels.scale
    offset = queries @ levels.mean - MIDDLE * scaled.sum(dim=1)
    asked = (queries.numpy(), scaled.numpy(), offset.numpy())
    keys_ = (keys.rows.numpy(), levels.byte, np.float32(_SURE * levels.scale / 12**0.5))
    kept = (near.row, near.count)
    # Beside the weights: whether an item is added by its bytes, and is in the lower half.
    light, lower = np.empty((n, most), np.bool_), np.empty((n, most), np.bool_)
    found = (np.empty((n, most), np.float32), light, lower)
    best = np.empty((n, 1), np.float32)
    mass, moment = np.zeros((n, 2), np.float32), np.zeros((n, 2), np.float32)
    sums = [np.empty((n, 2, value.rows.shape[1]), np.float32) for value in values]
    tables = [
        (one.rows.numpy(), one.levels.byte, np.float32(one.levels.scale), one.levels.mean.numpy())
        for one in values
    ]
    heat = np.float32(temperature)

    def part(start: int, stop: int) -> None:
        _weigh_and_add(
            asked, keys_, kept, heat, found, best, mass, moment, tables[0], sums[0], start, stop
        )
        for table, total in zip(tables[1:], sums[1:], strict=True):
            _add(kept, found, table, total, start, stop)

    in_parts(part, n)
    return Weighed(
        torch.from_numpy(best),
        torch.from_numpy(mass),
        torch.from_numpy(moment),
        [torch.from_numpy(one) for one in sums],
    )


@compiled
def _weigh(
    asked: tuple[Floats, Floats, Floats],
    keys_: tuple[Floats, Bytes, np.float32],
    kept: tuple[NDArray[np.int32], NDArray[np.int64]],
    temperature: np.float32,
    found: tuple[Floats, Flags, Flags],
    best: Floats,
    mass: Floats,
    moment: Floats,
    start: int,
    stop: int,
) -> None:
    queries, scaled, offset = asked
    keys, byte, doubt = keys_
    row, counts = kept
    weight, light, lower = found
    score = np.empty(weight.shape[1] + 3, np.float32)
    for query in range(start, stop):
        count = counts[query]
        top, whole, middle = np.float32(-np.inf), np.float32(0), np.float32(0)
        for item in range(0, count, 4):  # at once, as each is waited for
            a, b = row[query, item], row[query, min(item + 1, count - 1)]
            c, e = row[query, min(item + 2, count - 1)], row[query, min(item + 3, count - 1)]
            one, two, three, four = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for axis in range(byte.shape[1]):
                asks = scaled[query, axis]
                one += asks * np.float32(byte[a, axis])
                two += asks * np.float32(byte[b, axis])
                three += asks * np.float32(byte[c, axis])
                four += asks * np.float32(byte[e, axis])
            score[item], score[item + 1] = one + offset[query], two + offset[query]
            score[item + 2], score[item + 3] = three + offset[query], four + offset[query]
        for item in range(count):
            top = max(top, score[item])
        for item in range(count):
            whole += np.exp((score[item] - top) / temperature)
        enough = top + temperature * np.log(whole * np.float32(_HEAVY)) - doubt
        top = np.float32(-np.inf)
        for item in range(count):
            light[query, item] = score[item] < enough
            if not light[query, item]:
                key, total = row[query, item], np.float32(0)
                for axis in range(keys.shape[1]):
                    total += queries[query, axis] * keys[key, axis]
                score[item] = total
            top = max(top, score[item])
            middle += score[item] / np.float32(count)
        best[query, 0] = top if count else np.float32(1)
        for item in range(count):
            weight[query, item] = np.exp((score[item] - top) / temperature)
            lower[query, item] = score[item] < middle
            half = 1 if lower[query, item] else 0
            mass[query, half] += weight[query, item]
            moment[query, half] += weight[query, item] * score[item]


@compiled
def _add(
    kept: tuple[NDArray[np.int32], NDArray[np.int64]],
    found: tuple[Floats, Flags, Flags],
    table: tuple[Floats, Bytes, np.float32, Floats],
    sums: Floats,
    start: int,
    stop: int,
) -> None:
    row, counts = kept
    weight, light, lower = found
    values, byte, scale, mean = table
    width = values.shape[1]
    exact, rough = np.empty((2, width), np.float32), np.empty((2, width), np.float32)
    some, shares = np.empty(4, np.int32), np.empty(4, np.float32)
    for query in range(start, stop):
        exact[:], rough[:] = 0, 0
        mass = np.zeros(2, np.float32)  # of what is added by its bytes
        for half in range(2):
            held = 0
            for item in range(counts[query]):
                share, key = weight[query, item], row[query, item]
                if lower[query, item] != (half == 1):
                    continue
                if not light[query, item]:
                    for axis in range(width):
                        exact[half, axis] += share * values[key, axis]
                    continue
                mass[half] += share
                some[held], shares[held] = key, share
                held += 1
                if held == 4:
                    _add_four(some, shares, byte, rough[half])
                    held = 0
            if held:
                some[held:], shares[held:] = some[0], 0
                _add_four(some, shares, byte, rough[half])
        for half in range(2):
            for axis in range(width):
                level = rough[half, axis] - np.float32(MIDDLE) * mass[half]
                sums[query, half, axis] = (
                    exact[half, axis] + scale * level + mean[axis] * mass[half]
                )


@compiled
def _add_four(some: NDArray[np.int32], shares: Floats, byte: Bytes, total: Floats) -> None:
    a, b, c, e = some[0], some[1], some[2], some[3]
    one, two, three, four = shares[0], shares[1], shares[2], shares[3]
    for axis in range(len(total)):
        total[axis] += (
            one * np.float32(byte[a, axis])
            + two * np.float32(byte[b, axis])
            + three * np.float32(byte[c, axis])
            + four * np.float32(byte[e, axis])
        )


@compiled
def _weigh_and_add(
    asked: tuple[Floats, Floats, Floats],
    keys_: tuple[Floats, Bytes, np.float32],
    kept: tuple[NDArray[np.int32], NDArray[np.int64]],
    temperature: np.float32,
    found: tuple[Floats, Flags, Flags],
    best: Floats,
    mass: Floats,
    moment: Floats,
    table: tuple[Floats, Bytes, np.float32, Floats],
    sums: Floats,
    start: int,
    stop: int,
) -> None:
    """One query after the other: values that are the keys are still in the cache."""
    for query in range(start, stop):
        _weigh(asked, keys_, kept, temperature, found, best, mass, moment, query, query + 1)
        _add(kept, found, table, sums, query, query + 1)
