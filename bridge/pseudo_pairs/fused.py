"""Softmax retrieval in one kernel on a GPU: its scores never leave the processors.

Attention whose keys are its values, at widths up to 512, which the kernels that come with torch do
not take (flash attention and cuDNN's end at 256). Rows are rounded to float16, which is 8 times
finer than bfloat16 for what is in [-1, 1] and as fast; scores, powers and sums are float32. Scores
of unit rows are off by about 1e-5, so weights by 1e-5 over the temperature.

Axes: n queries, m memory items, d dimensions, e of the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.pseudo_pairs.exact import Rows
from features.errors import UserError
from features.products import has_kernels

WIDEST = 512
LEAST_TEMPERATURE = 0.005  # below, the rounding of scores may be a hundredth of the weights
_LIFT = 14  # powers of two that weights are lifted by: float16 has none below 2^-24
_LAUNCH = 1 << 19  # queries that one launch answers, between which progress is told


def fits_fused(
    queries: Tensor, keys: Rows, values: tuple[Rows, ...], *, temperature: float
) -> bool:
    """Whether `retrieve_fused` is meant for these, and for the device that they are on.

    It is made for NVIDIA's GPUs from Hopper on, which have room for a block of both operands.
    """
    tables = (keys, *values)
    here = all(isinstance(table, Tensor) and table.device == queries.device for table in tables)
    narrow = all(table.shape[1] <= WIDEST for table in tables)
    hot = temperature >= LEAST_TEMPERATURE
    return here and narrow and hot and has_kernels(queries.device, (9, 0))


def retrieve_fused(
    queries: Float[Tensor, "n d"],
    keys: Rows,
    values: tuple[Rows, ...] = (),
    *,
    temperature: float,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, ...]:
    """For every query, `normalize(sum_k softmax_k(q . key_k / temperature) value_k)`.

    All rows have unit norm, and the tables are tensors on the device of the queries. Returns a
    float32 tensor (n, e) for each of `values`, which default to the keys themselves.
    advance: called with the number of queries that are done.
    Raises UserError for rows wider than 512.
    """
    values = values or (keys,)
    widest = max(table.shape[1] for table in (keys, *values))
    if widest > WIDEST:
        raise UserError(
            f"fused retrieval takes rows of at most {WIDEST} dimensions but these have {widest}: "
            "use --retrieval exact"
        )
    half = {id(table): table[:].half().contiguous() for table in (keys, *values)}
    found = tuple(
        queries.new_empty(len(queries), one.shape[1], dtype=torch.float32) for one in values
    )
    for start in range(0, len(queries), _LAUNCH):
        part = slice(start, start + _LAUNCH)
        asked = queries[part].half().contiguous()
        for value, output in zip(values, found, strict=True):
            _launch(asked, half[id(keys)], half[id(value)], output[part], temperature)
        if asked.device.type == "cuda":
            torch.cuda.synchronize(asked.device)  # what is told is done, not only asked for
        advance(len(asked))
    return found


def _launch(
    queries: Tensor, keys: Tensor, values: Tensor, found: Tensor, temperature: float
) -> None:
    import triton

    from bridge.fused_kernels import retrieve_kernel

    d, e = (max(16, triton.next_power_of_2(table.shape[1])) for table in (keys, values))
    shared, wide = keys is values, max(d, e) > WIDEST // 2
    # What Hopper has room for: queries and two blocks of items in 192 KiB, sums in registers.
    block_queries, block_items = 64 if wide else 128, 64 if shared or not wide else 32
    retrieve_kernel[(triton.cdiv(len(queries), block_queries),)](
        queries, keys, values, found, len(queries), len(keys), math.log2(math.e) / temperature,
        width=keys.shape[1], value_width=values.shape[1], d=d, e=e,
        block_queries=block_queries, block_items=block_items, lift=_LIFT, shared=shared,
        num_warps=8, num_stages=2,
    )  # fmt: skip
