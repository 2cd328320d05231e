"""How pseudo pairs are retrieved: by all items of a memory, or by those that carry the weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bridge.fused_retrieval import fits_fused, retrieve_fused
from bridge.pseudo_pairs import Retriever, Rows, retrieve
from bridge.sparse_retrieval import retrieve_sparse
from features.products import fast_dtype
from features.rough import multiplies_bytes

_MANY, _ASKED = 65_536, 1024  # items and queries from which on others are faster than exact


def retriever(method: str) -> Retriever:
    """How to retrieve: `exact`, `sparse`, or `auto`, by the device and a memory's size.

    On GPUs that it is made for, `auto` retrieves by all items in one kernel.
    """

    def by_size(
        queries: Tensor,
        keys: Rows,
        values: tuple[Rows, ...],
        *,
        temperature: float,
        advance: Callable[[int], None] = lambda _: None,
    ) -> tuple[Tensor, ...]:
        device, large = queries.device, len(keys) >= _MANY and len(queries) >= _ASKED
        fits = fits_fused(queries, keys, values, temperature=temperature)
        if method == "auto" and large and fits:
            return retrieve_fused(queries, keys, values, temperature=temperature, advance=advance)
        fast = multiplies_bytes(device) or fast_dtype(device) == torch.bfloat16
        if method == "sparse" or (method == "auto" and fast and large):
            found = retrieve_sparse(queries, keys, values, temperature=temperature, advance=advance)
            return found.values
        # Scores of half-precision queries would be made in half precision.
        queries = queries.to(torch.promote_types(queries.dtype, torch.float32))
        return retrieve(queries, keys, values, temperature=temperature, advance=advance)

    return by_size
