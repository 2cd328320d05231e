"""Cross-entropy between two sets of rows, both ways, without holding all of their logits.

A batch of 10,240 has 10^8 logits, and a backward pass holds several matrices of that size. Large
batches are therefore taken in blocks of rows whose logits are computed again in the backward
pass. One pass over the blocks serves both directions: a block completes its rows and adds to the
sums of all columns.

Axes: n rows on the left, m on the right, d dimensions of the shared space, b rows in a block.
Logits are `s_ij = <left_i, right_j> / temperature`; costs are in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bridge.training.distributed import Ranks, Share

# How many logits are held at once; with fewer, all of them, which is faster. Blocks of 64 MiB
# (float32) go back to the system when they are freed, blocks below 32 MiB fragment glibc's heap.
MAX_LOGITS = 2**24

# For some of the rows, their targets w (b, m) as they count for the rows, and as they count for
# the columns. None stands for partners: row i of one side and row i of the other.
Targets = Callable[[slice], tuple[Tensor | None, Tensor | None]]


def fits_at_once(left: Float[Tensor, "n d"], right: Float[Tensor, "m d"]) -> bool:
    """Whether the logits may all be held at once."""
    return len(left) * len(right) <= MAX_LOGITS


def two_way_cross_entropy(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "m d"],
    targets: Targets,
    *,
    temperature: float,
    shares: tuple[Share, Share] | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy between targets and softmax, over the rows and over the columns.

    Row i costs `log sum_j exp s_ij - sum_j w_ij s_ij / sum_j w_ij`, column j the same over i.
    Those whose targets sum to zero are left out of the mean, and if all do the mean is zero.
    Returns the mean of both directions.

    `targets` is called again in the backward pass and must not need gradients.
    shares: which rows of the left and of the right side these are, where several processes hold
    them; the rows that `targets` is asked for are those of the whole batch. Returns this process's
    part of the cost. Each process takes its rows as a block, and the sums of columns are merged.
    """
    of_left, of_right = shares or (Share(len(left)), Share(len(right)))
    right = of_right.gathered(right)
    whole = fits_at_once(left, right)
    size = len(left) if whole else max(1, MAX_LOGITS // len(right))
    sums = []
    for index, part in enumerate(torch.split(left / temperature, size)):
        block = (part, right, targets, of_left.start + index * size)
        if whole:
            sums.append(_sums(*block))
        else:  # nothing is random, and to save a GPU's random state is to wait for the GPU
            sums.append(checkpoint(_sums, *block, use_reentrant=False, preserve_rng_state=False))
    rows = _Sums(*(torch.cat(parts) for parts in zip(*(row for row, _ in sums), strict=True)))
    columns = sums[0][1]
    for _, more in sums[1:]:
        columns = _added(columns, more)
    columns = _over_all(columns, of_right.ranks)
    mine = _Sums(*(one[of_right.mine] for one in columns))
    return (_mean_cost(rows, of_left.ranks) + _mean_cost(mine, of_right.ranks)) / 2


class _Sums(NamedTuple):
    """What the cost of each row, or of each column, is made of."""

    normaliser: Tensor  # log sum exp s
    pull: Tensor  # sum w s
    weight: Tensor  # sum w


def _sums(part: Tensor, right: Tensor, targets: Targets, start: int) -> tuple[_Sums, _Sums]:
    """Sums of the rows from `start` on, and what they add to the sums of the columns."""
    logits = part @ right.T
    for_rows, for_columns = targets(slice(start, start + len(part)))
    return _along(logits, for_rows, 1, start), _along(logits, for_columns, 0, start)


def _along(logits: Tensor, targets: Tensor | None, dim: int, start: int) -> _Sums:
    normaliser = logits.logsumexp(dim)
    if targets is not None:
        targets = targets.to(logits.dtype)
        return _Sums(normaliser, (targets * logits).sum(dim), targets.sum(dim))
    pull = logits.diagonal(start).clone()  # a view would keep the logits in memory
    weight = torch.ones_like(pull)
    if dim == 0:  # the other columns' partners are in other blocks
        around = (start, logits.shape[1] - start - len(pull))
        pull, weight = F.pad(pull, around), F.pad(weight, around)
    return _Sums(normaliser, pull, weight)


def _added(some: _Sums, more: _Sums) -> _Sums:
    normaliser = torch.logaddexp(some.normaliser, more.normaliser)
    return _Sums(normaliser, some.pull + more.pull, some.weight + more.weight)


def _over_all(some: _Sums, ranks: Ranks) -> _Sums:
    """What the blocks of all processes add up to."""
    if ranks.size == 1:
        return some
    highest = ranks.highest(some.normaliser.detach())
    powers = (some.normaliser - highest).exp()
    powers, pull, weight = ranks.total(torch.stack([powers, some.pull, some.weight]))
    return _Sums(powers.log() + highest, pull, weight)


def _mean_cost(sums: _Sums, ranks: Ranks) -> Tensor:
    """These costs over the number of those of all processes."""
    counted = sums.weight > 0
    costs = sums.normaliser - sums.pull / sums.weight.where(counted, 1)
    return costs.where(counted, 0).sum() / ranks.total(counted.sum()).clamp(min=1)
