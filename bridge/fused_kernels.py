"""Kernels in Triton; imported only where they are run. Their callers say what they are for.

Axes: b queries of a block or rows of logits, k items of a block of the memory, d and e dimensions
of keys and values, filled up to powers of two, n columns of logits.
"""

# Triton reads annotations, and knows none but its own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def retrieve_kernel(
    queries,
    keys,
    values,
    found,
    n,
    m,
    scale,  # of scores, to powers of two
    width: tl.constexpr,
    value_width: tl.constexpr,
    d: tl.constexpr,
    e: tl.constexpr,
    block_queries: tl.constexpr,
    block_items: tl.constexpr,
    lift: tl.constexpr,
    shared: tl.constexpr,
):
    """Unit rows `normalize(sum_k 2^(scale q.key_k) value_k)` of one block of queries.

    queries (n, width), keys (m, width) and values (m, value_width): float16. found
    (n, value_width): float32. shared: the values are the keys and are read once for both.
    """
    first = tl.program_id(0).to(tl.int64) * block_queries
    row = tl.arange(0, block_queries)
    item = tl.arange(0, block_items)
    column, value_column = tl.arange(0, d), tl.arange(0, e)
    asked = (first + row < n)[:, None]
    query = tl.load(
        queries + first * width + row[:, None] * width + column[None, :],
        mask=asked & (column < width)[None, :],
        other=0.0,
    )
    key_place = keys + item[:, None] * width + column[None, :]
    value_place = values + item[:, None] * value_width + value_column[None, :]
    best = tl.full([block_queries], -float("inf"), tl.float32)
    total = tl.zeros([block_queries, e], tl.float32)
    for start in range(0, m, block_items):
        there = start + item < m
        key = tl.load(key_place, mask=there[:, None] & (column < width)[None, :], other=0.0)
        scores = tl.dot(query, tl.trans(key)) * scale
        scores = tl.where(there[None, :], scores, -float("inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        # Lifted: float16 loses what is below 2^-24, and millions of such weights count.
        weights = tl.exp2(scores - (higher - lift)[:, None]).to(tl.float16)
        total = total * tl.exp2(best - higher)[:, None]
        if shared:
            total = tl.dot(weights, key, total)
        else:
            value = tl.load(
                value_place,
                mask=there[:, None] & (value_column < value_width)[None, :],
                other=0.0,
            )
            total = tl.dot(weights, value, total)
        best = higher
        key_place += block_items * width
        value_place += block_items * value_width
    norm = tl.sqrt(tl.sum(total * total, 1))
    tl.store(
        found + first * value_width + row[:, None] * value_width + value_column[None, :],
        total / tl.maximum(norm, 1e-12)[:, None],
        mask=asked & (value_column < value_width)[None, :],
    )


@triton.jit
def powers_kernel(
    logits,
    weights,
    row_sums,
    column_sums,
    b,
    n,
    start,
    floor,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):
    """`exp(logits)` in their place, zero from `floor` down and where a row meets its partner.

    logits (b, n), those of the rows from `start` on. weights (n,): of the rows' sums. row_sums
    (columns' blocks, b) and column_sums (rows' blocks, n) get each block's part, in float32.
    """
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    column = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    inside = (row < b)[:, None] & (column < n)[None, :]
    place = logits + row.to(tl.int64)[:, None] * n + column[None, :]
    logit = tl.load(place, mask=inside, other=-float("inf")).to(tl.float32)
    others = (row + start)[:, None] != column[None, :]
    power = tl.where((logit > floor) & others, tl.exp(logit), 0.0)
    tl.store(place, power.to(logits.dtype.element_ty), mask=inside)
    weight = tl.load(weights + column, mask=column < n, other=0.0)
    to_rows = row_sums + tl.program_id(1).to(tl.int64) * b + row
    tl.store(to_rows, tl.sum(power * weight[None, :], 1), mask=row < b)
    to_columns = column_sums + tl.program_id(0).to(tl.int64) * n + column
    tl.store(to_columns, tl.sum(power, 0), mask=column < n)


@triton.jit
def gradient_kernel(
    powers,
    by_row,
    weights,
    by_column,
    b,
    n,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):
    """`E_ij (v_j by_row_i + by_column_j)` in the place of the powers `E_ij` (b, n)."""
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    column = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    inside = (row < b)[:, None] & (column < n)[None, :]
    place = powers + row.to(tl.int64)[:, None] * n + column[None, :]
    power = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(weights + column, mask=column < n, other=0.0)
    factor = tl.load(by_row + row, mask=row < b, other=0.0)[:, None] * weight[None, :]
    factor += tl.load(by_column + column, mask=column < n, other=0.0)[None, :]
    tl.store(place, (power * factor).to(powers.dtype.element_ty), mask=inside)
