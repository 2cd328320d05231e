"""Layers whose gradients are written out, where that is faster than what torch composes.

Axes: n rows, i inputs and o outputs of a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from features.products import product


class Linear(nn.Linear):
    """`torch.nn.Linear`, with `features.products` for its products in full precision."""

    def forward(self, rows: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        """`rows @ weight.T + bias`."""
        if rows.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(rows)
        result: Tensor = _Linear.apply(rows, self.weight, self.bias)
        return result


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
