"""Layers whose gradients are written out, where that is faster than what torch composes.

Axes: n rows, i inputs and o outputs of a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bridge.training.distributed import ALONE, Ranks
from features.products import product


class Linear(nn.Linear):
    """`torch.nn.Linear`, with `features.products` for its products in full precision."""

    def forward(self, rows: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        """`rows @ weight.T + bias`."""
        if rows.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(rows)
        result: Tensor = _Linear.apply(rows, self.weight, self.bias)
        return result


class BatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d`, in training with the statistics of all processes' rows.

    torch's SyncBatchNorm computes the same, on GPUs alone.
    """

    ranks: Ranks = ALONE

    def forward(self, rows: Float[Tensor, "n o"]) -> Float[Tensor, "n o"]:
        """Columns of mean 0 and variance 1, times `weight`, plus `bias`."""
        if self.ranks.size == 1 or not self.training:
            return super().forward(rows)
        result, mean, variance, count = _Normalised.apply(
            rows, self.weight, self.bias, self.eps, self.ranks
        )
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        normalised: Tensor = result
        return normalised


def unit(rows: Float[Tensor, "n o"]) -> Float[Tensor, "n o"]:
    """Rows over their L2 norms, in float32 at least; a row of zeros stays as it is."""
    result: Tensor = _Unit.apply(rows.to(torch.promote_types(rows.dtype, torch.float32)))
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        made = product(rows, weight)
        return made if bias is None else made.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            product(outer, weight.T.contiguous()) if of_rows else None,
            outer.T @ rows if of_weight else None,
            outer.sum(dim=0) if of_bias else None,
        )


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        # The bound of torch's own normalize.
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(1e-12)
        made: Tensor = rows / norms
        ctx.save_for_backward(made, norms)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Tensor:
        made, norms = ctx.saved_tensors
        along = (made * outer).sum(dim=1, keepdim=True)
        inner: Tensor = torch.addcmul(outer, made, along, value=-1).div_(norms)
        return inner


class _Normalised(torch.autograd.Function):
    """BatchNorm over the rows of all processes, which may have different numbers of them."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        full = rows.to(weight.dtype)
        sums = torch.cat([full.sum(dim=0), full.new_full((1,), len(full))])
        ranks.add_up([sums])
        count = sums[-1]
        mean = sums[:-1] / count
        centred = full - mean
        # About the mean of all rows: squares of the rows themselves would cancel.
        variance = centred.square().sum(dim=0)
        ranks.add_up([variance])
        variance /= count
        scale = (variance + eps).rsqrt()
        normal = centred.mul_(scale)
        ctx.save_for_backward(normal, weight, scale, count)
        ctx.ranks = ranks
        ctx.mark_non_differentiable(mean, variance, count)
        return torch.addcmul(bias, normal, weight).to(rows.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        normal, weight, scale, count = ctx.saved_tensors
        full = outer.to(weight.dtype)
        of_bias, of_weight = full.sum(dim=0), (full * normal).sum(dim=0)
        whole = torch.stack([of_bias, of_weight])
        ctx.ranks.add_up([whole])
        inner = torch.addcmul(full, normal, whole[1] / count, value=-1).sub_(whole[0] / count)
        return inner.mul_(weight * scale).to(outer.dtype), of_weight, of_bias, None, None
