"""What InfoNCE does to its logits between products, in one pass over them each, on a GPU.

In torch it is ten passes in float32, which take longer there than the products in bfloat16.

Axes: b rows of logits, n columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from features.products import has_kernels

_ROWS, _COLUMNS = 64, 128  # of a block


def fits_kernels(logits: Tensor) -> bool:
    """Whether there is a kernel for them: in bfloat16, on an NVIDIA GPU that multiplies it."""
    return logits.dtype == torch.bfloat16 and has_kernels(logits.device, (8, 0))


def powers_(
    logits: Float[Tensor, "b n"], weights: Float[Tensor, " n"], start: int, floor: float
) -> tuple[Float[Tensor, " b"], Float[Tensor, " n"]]:
    """Turn contiguous logits of the rows from `start` on into their powers.

    Zero from `floor` down, and where row i meets its partner, column `start + i`. Returns the sums
    of the rows, columns weighed by `weights` (float32), and of the columns, before rounding.
    """
    import triton

    from bridge.fused_kernels import powers_kernel

    b, n = logits.shape
    blocks = triton.cdiv(b, _ROWS), triton.cdiv(n, _COLUMNS)
    rows, columns = weights.new_empty(blocks[1], b), weights.new_empty(blocks[0], n)
    powers_kernel[blocks](
        logits, weights, rows, columns, b, n, start, floor,
        block_rows=_ROWS, block_columns=_COLUMNS,
    )  # fmt: skip
    return rows.sum(dim=0), columns.sum(dim=0)


def gradient_(
    powers: Float[Tensor, "b n"],
    by_row: Float[Tensor, " b"],
    weights: Float[Tensor, " n"],
    by_column: Float[Tensor, " n"],
) -> None:
    """`E_ij (v_j by_row_i + by_column_j)` in the place of `E_ij`, which are contiguous."""
    import triton

    from bridge.fused_kernels import gradient_kernel

    b, n = powers.shape
    gradient_kernel[triton.cdiv(b, _ROWS), triton.cdiv(n, _COLUMNS)](
        powers, by_row, weights, by_column, b, n, block_rows=_ROWS, block_columns=_COLUMNS
    )
