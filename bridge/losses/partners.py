"""InfoNCE with its gradient in one go: one matrix of powers serves both directions.

With `E_ij = exp(s_ij - s_jj)`, column j's softmax is `E_ij / sum_i E_ij`, and with weights
`v_j = exp(s_jj - max s_jj)` row i's is `E_ij v_j / sum_j E_ij v_j`. So every logit is computed
once, raised to a power once, and turned into its gradient in place; backward only scales. Logits
about their partners are also what bfloat16 can hold: its steps are finest where the powers are
largest. Partners themselves (`i = j`) are kept apart in float32, where `1 - p` does not cancel.

Axes: n pairs, d dimensions of the shared space, b rows in a block. Logits are
`s_ij = <left_i, right_j> / temperature`; costs are in nats.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bridge.fused_powers import fits_kernels, gradient_, powers_
from bridge.losses import blocks
from bridge.training.distributed import Share
from features.products import product

_CACHED = 2**18  # logits that passes over them find in the cache; a GPU does better with all
_ON_GPU = 8  # times as many logits are held: the published batch's at once, which saves a product
# Processors take a hundred times longer for subnormal numbers: powers that are next to them are
# made zero, and what is multiplied by normalisers is lifted away from them.
_LIFT = 2.0**48


def partners_cross_entropy(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "n d"],
    *,
    temperature: float,
    bf16: bool = False,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of finding each row's partner, over both directions.

    At most `blocks.MAX_LOGITS` logits are held at once; of more, each is computed twice.
    bf16: compute the products in bfloat16 and sum in float32.
    share: which rows of the whole batch these are; what is returned is then this process's part.
    Each process raises its own rows to powers, and the sums of columns are added up.
    """
    cost: Tensor = _Partners.apply(left, right, temperature, bf16, share or Share(len(left)))
    return cost


class _Partners(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, temperature: float, bf16: bool, share: Share
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:2])
        found = _fused(left, right, temperature, share, bf16=bf16, wanted=wanted)
        cost, *gradients = found or _careful(left, right, temperature, share)
        ctx.save_for_backward(*gradients)
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        return *(outer * gradient for gradient in ctx.saved_tensors), None, None, None


class _Sides(NamedTuple):
    """Both sides as the products take them, and what the powers are relative to."""

    left: Tensor  # (b, d), this process's rows, over temperature
    right: Tensor  # (n, d)
    shift: Tensor  # (n,) the partners' logits
    weights: Tensor  # (n,) v, in the precision of sums


def _fused(
    left: Tensor, right: Tensor, temperature: float, share: Share, *, bf16: bool, wanted: bool
) -> tuple[Tensor, ...] | None:
    """Cost, and gradients if they are wanted; None where powers leave the range of floats."""
    n, mine, high = share.rows, share.mine, left.dtype
    low = torch.bfloat16 if bf16 else high
    low_left, low_right = (left / temperature).to(low), share.gathered(right).to(low)
    # Rounded for partners as for others.
    scaled, right = low_left.to(high), low_right[mine].to(high)
    own_partner = (scaled * right).sum(dim=1)
    partner = share.gathered(own_partner)
    shift = partner.to(low)
    known = shift.to(high)
    weights = (known - known.max()).exp()
    sides = _Sides(low_left, low_right, shift, weights)
    own = (partner - known).exp()

    most = blocks.MAX_LOGITS * (_ON_GPU if left.device.type == "cuda" else 1)
    parts = torch.split(sides.left, max(1, most // n))
    rows, columns = torch.empty_like(own_partner), torch.zeros_like(weights)
    powers, start = weights, 0
    for part in parts:
        row_sums = rows[start : start + len(part)]
        powers = _powers(part, sides, share.start + start, row_sums, columns)
        start += len(part)
    share.ranks.add_up([columns])
    row_sums, column_sums = rows + (own * weights)[mine], columns + own
    if not _in_range(weights, share.gathered(row_sums), column_sums):
        return None
    row_costs = row_sums.log() + known.max() - own_partner
    cost = (row_costs.sum() + (columns / own)[mine].log1p().sum()) / (2 * n)
    if not wanted:
        return (cost,)

    by_row, by_column = _LIFT / row_sums, _LIFT / column_sums
    left_gradient = torch.zeros_like(left)
    whole_gradient = left.new_zeros(n, left.shape[1])
    start = 0
    for part in parts:
        here = slice(start, start + len(part))
        if len(parts) > 1:
            powers = _powers(part, sides, share.start + start)
        _to_gradient(powers, by_row[here], weights, by_column)
        left_gradient[here] += _times(powers, sides.right)
        whole_gradient += torch.mm(powers.T, part)
        start += len(part)
    share.ranks.add_up([whole_gradient])
    right_gradient = whole_gradient[mine]
    pull = (rows / row_sums + (columns / column_sums)[mine]).unsqueeze(1)
    left_gradient.div_(_LIFT).addcmul_(pull, right, value=-1).div_(2 * n * temperature)
    right_gradient.div_(_LIFT).addcmul_(pull, scaled, value=-1).div_(2 * n)
    return cost, left_gradient, right_gradient


def _in_range(weights: Tensor, row_sums: Tensor, column_sums: Tensor) -> bool:
    """Whether all that is too small for a float, and so left out, is too small to count."""
    tiny = torch.finfo(weights.dtype).tiny
    finite = torch.isfinite(row_sums.sum() + column_sums.sum())
    return bool((weights.min() > tiny) & (row_sums.min() > tiny**0.58) & finite)


def _powers(
    part: Float[Tensor, "b d"],
    sides: _Sides,
    start: int,
    rows: Float[Tensor, " b"] | None = None,
    columns: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "b n"]:
    """`E` of the rows from `start` on, partners zero; `rows` and `columns` get its sums."""
    bf16 = part.dtype == torch.bfloat16
    if bf16:  # the shift before rounding, not after it
        logits = nn.functional.linear(part, sides.right, -sides.shift)
    else:
        logits = product(part, sides.right)
    floor = math.log(torch.finfo(sides.weights.dtype).tiny) + 17
    if fits_kernels(logits):
        of_rows, of_columns = powers_(logits, sides.weights, start, floor)
        if rows is not None and columns is not None:
            rows.copy_(of_rows)
            columns += of_columns
        return logits
    scratch = torch.empty(0)
    place = start
    for chunk in torch.split(logits, _chunk(logits)):
        if bf16:
            if not len(scratch):
                scratch = torch.empty_like(chunk, dtype=sides.weights.dtype)
            full = scratch[: len(chunk)].copy_(chunk)
        else:
            full = chunk.sub_(sides.shift)
        torch.threshold_(full, floor, -torch.inf).exp_().diagonal(place).zero_()
        if rows is not None and columns is not None:
            torch.mv(full, sides.weights, out=rows[place - start : place - start + len(chunk)])
            columns += full.sum(dim=0)
        if bf16:
            chunk.copy_(full)
        place += len(chunk)
    return logits


def _to_gradient(
    powers: Float[Tensor, "b n"],
    by_row: Float[Tensor, " b"],
    weights: Float[Tensor, " n"],
    by_column: Float[Tensor, " n"],
) -> None:
    """`E_ij (v_j by_row_i + by_column_j)` in the place of `E_ij`."""
    if fits_kernels(powers):
        gradient_(powers, by_row, weights, by_column)
        return
    chunks = zip(
        torch.split(powers, _chunk(powers)), torch.split(by_row, _chunk(powers)), strict=True
    )
    for chunk, factors in chunks:
        factor = torch.addcmul(by_column, factors.unsqueeze(1), weights)
        chunk.mul_(factor.to(chunk.dtype))


def _chunk(logits: Tensor) -> int:
    return max(1, _CACHED // logits.shape[1]) if logits.device.type == "cpu" else len(logits)


def _times(powers: Float[Tensor, "b n"], right: Float[Tensor, "n d"]) -> Float[Tensor, "b d"]:
    if powers.dtype == torch.bfloat16:
        return powers @ right
    return product(powers, right.T.contiguous())


def _careful(left: Tensor, right: Tensor, temperature: float, share: Share) -> tuple[Tensor, ...]:
    """The same where some rows are far better matched than others, at half the speed."""
    with torch.enable_grad():
        sides = [side.detach().requires_grad_() for side in (left, right)]
        cost = blocks.two_way_cross_entropy(
            sides[0], sides[1], lambda _: (None, None), temperature=temperature,
            shares=(share, share),
        )  # fmt: skip
        return cost.detach(), *torch.autograd.grad(cost, sides)
