"""The kernel of `bridge.fused_retrieval`, in Triton; imported only where it is run.

Axes: b queries of a block, k items of a block of the memory, d and e dimensions of keys and values,
filled up to powers of two.
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
