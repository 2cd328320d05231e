"""Batches of a table's rows with noise, drawn on all cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.training.distributed import ALONE, Ranks
from bridge.training.noise import add_noise
from features.compiled import compiled
from features.cores import in_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bits = NDArray[np.int32]
    Buffers = tuple[NDArray[np.uint64], Floats, Bits, Floats, Bits, Floats]

_ROWS = 512  # that are worth a core
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the step of SplitMix64
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_FRACTION, _ONE = np.int32(0x7FFFFF), np.int32(0x3F800000)  # of a float32's bits
_LN2, _PI = np.float32(np.log(2)), np.float32(np.pi)
_TO_UNIT = np.float32(2.0**-32)


def noisy_rows(
    table: Float[Tensor, "m d"],
    rows: Int[Tensor, " n"],
    *,
    variance: float,
    generator: torch.Generator,
) -> Float[Tensor, "n d"]:
    """`add_noise` to some rows of a table.

    The noise is that of `noisy_tables`.
    """
    (made,) = noisy_tables([(table, rows)], variance=variance, generator=generator)
    return made


def noisy_tables(
    wanted: Sequence[tuple[Float[Tensor, "m d"], Int[Tensor, " n"]]],
    *,
    variance: float,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> list[Float[Tensor, "n d"]]:
    """`add_noise` to some rows of each of several tables; of each, this process's share.

    On a CPU torch draws numbers one after the other, on one core. There `generator` draws a seed,
    and every number is made from the seed and its place in the batch (SplitMix64, Steele et al.
    2014, then Box and Muller 1958): the noise is the same for any number of cores and processes.
    """
    if variance == 0 or any(
        table.device.type != "cpu" or table.dtype != torch.float32 for table, _ in wanted
    ):
        return [
            add_noise(table[rows], variance=variance, generator=generator)[
                ranks.share(len(rows)).mine
            ]
            for table, rows in wanted
        ]
    seeds = torch.randint(2**62, (len(wanted),), generator=generator).numpy().astype(np.uint64)
    starts = [ranks.share(len(rows)).start for _, rows in wanted]
    wanted = [(table, rows[ranks.share(len(rows)).mine]) for table, rows in wanted]
    made = [np.empty((len(rows), table.shape[1]), np.float32) for table, rows in wanted]
    deviation = np.float32(variance**0.5)

    def fill(start: int, stop: int) -> None:
        """Of the rows of all tables, laid end to end, those from start to stop."""
        for (table, rows), seed, first, result in zip(wanted, seeds, starts, made, strict=True):
            part = max(start, 0), min(stop, len(rows))
            if part[0] < part[1]:
                _fill(table.numpy(), rows.numpy(), seed, first, deviation, result, *part)
            start, stop = start - len(rows), stop - len(rows)

    in_parts(fill, sum(len(rows) for _, rows in wanted), step=_ROWS)
    return [torch.from_numpy(one) for one in made]


@compiled
def _fill(
    table: NDArray[np.float32],
    rows: NDArray[np.int64],
    seed: np.uint64,
    first: int,
    deviation: np.float32,
    made: NDArray[np.float32],
    start: int,
    stop: int,
) -> None:
    width = table.shape[1]
    buffers = make_buffers(width)
    noise = buffers[-1]
    for row in range(start, stop):
        _normal(state_of(seed, first + row, width), buffers)
        source = rows[row]
        squares = np.float32(0)
        for column in range(width):
            made[row, column] = table[source, column] + deviation * noise[column]
            squares += made[row, column] * made[row, column]
        inverse = np.float32(1) / np.sqrt(squares)
        for column in range(width):
            made[row, column] *= inverse


@compiled
def make_buffers(width: int) -> Buffers:
    """What `_normal` works in, for rows of this width."""
    pairs = (width + 1) // 2
    bits, uniform = np.empty(pairs, np.uint64), np.empty(pairs, np.float32)
    noise = np.empty(2 * pairs, np.float32)
    second = noise[pairs:]
    return bits, uniform, uniform.view(np.int32), second, second.view(np.int32), noise


@compiled
def state_of(seed: np.uint64, row: int, width: int) -> np.uint64:
    """Where the sequence of a row begins: behind that of the row before."""
    return seed + np.uint64(row) * np.uint64((width + 1) // 2) * _GOLDEN


@compiled
def _normal(state: np.uint64, buffers: Buffers) -> None:
    """Fill the last buffer with independent standard normal numbers.

    buffers: 64 bits and a number in (0, 1] of every pair, the number's bits, the second half of
    the last buffer, its bits, and the last. Loops are plain, for vector units.
    """
    bits, uniform, pattern, second, halves, noise = buffers
    pairs = len(bits)
    for pair in range(pairs):
        word = state + np.uint64(pair + 1) * _GOLDEN
        word = (word ^ (word >> np.uint64(30))) * _MIX[0]
        word = (word ^ (word >> np.uint64(27))) * _MIX[1]
        bits[pair] = word ^ (word >> np.uint64(31))
        # In (0, 1]; an even spacing of 2^-32 bounds the numbers at 6.7.
        uniform[pair] = (np.float32(bits[pair] >> np.uint64(32)) + np.float32(1)) * _TO_UNIT
    for pair in range(pairs):
        halves[pair] = (pattern[pair] & _FRACTION) | _ONE
    for pair in range(pairs):
        # ln(2^e m) by the series of atanh((m - 1) / (m + 1)).
        power = np.float32((pattern[pair] >> 23) - 127)
        ratio = (second[pair] - np.float32(1)) / (second[pair] + np.float32(1))
        square = ratio * ratio
        series = np.float32(1 / 9) + square * np.float32(1 / 11)
        series = np.float32(1 / 7) + square * series
        series = np.float32(1 / 5) + square * series
        series = np.float32(1 / 3) + square * series
        log = power * _LN2 + np.float32(2) * ratio * (np.float32(1) + square * series)
        radius = np.sqrt(max(np.float32(-2) * log, np.float32(0)))
        # Half the angle, between -pi / 2 and pi / 2, and the formulas of the double angle.
        turn = np.float32(np.int32(bits[pair] & np.uint64(0xFFFFFFFF))) * _TO_UNIT * _PI
        square = turn * turn
        sine = np.float32(1 / 362880) - square * np.float32(1 / 39916800)
        sine = np.float32(-1 / 5040) + square * sine
        sine = np.float32(1 / 120) + square * sine
        sine = np.float32(-1 / 6) + square * sine
        sine = turn * (np.float32(1) + square * sine)
        cosine = np.float32(1 / 40320) - square * np.float32(1 / 3628800)
        cosine = np.float32(-1 / 720) + square * cosine
        cosine = np.float32(1 / 24) + square * cosine
        cosine = np.float32(-1 / 2) + square * cosine
        cosine = np.float32(1) + square * cosine
        noise[pair] = radius * (cosine * cosine - sine * sine)
        second[pair] = radius * np.float32(2) * sine * cosine
