"""Batches of a table's rows with noise, drawn on all cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.noise import add_noise
from features.device import cpu_count

_PIECE = 2**20  # numbers drawn by one generator on a CPU


def noisy_rows(
    table: Float[Tensor, "m d"],
    rows: Int[Tensor, " n"],
    *,
    variance: float,
    generator: torch.Generator,
) -> Float[Tensor, "n d"]:
    """`add_noise` to some rows of a table.

    On a CPU a generator draws numbers one after the other, on one core. Many rows are therefore
    taken in pieces with generators of their own, which `generator` seeds: the pieces, and so the
    noise, are the same for any number of cores.
    """
    size = max(1, _PIECE // table.shape[1])
    if variance == 0 or table.device.type != "cpu" or len(rows) <= size:
        return add_noise(table[rows], variance=variance, generator=generator)
    result = table.new_empty(len(rows), table.shape[1])
    pieces = list(zip(torch.split(result, size), torch.split(rows, size), strict=True))
    seeds = torch.randint(2**62, (len(pieces),), generator=generator).tolist()

    def fill(piece: tuple[Tensor, Tensor], seed: int) -> None:
        part, wanted = piece
        part.normal_(std=variance**0.5, generator=torch.Generator().manual_seed(seed))
        part += table[wanted]
        part /= torch.linalg.vector_norm(part, dim=1, keepdim=True)

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(fill, pieces, seeds))
    return result
