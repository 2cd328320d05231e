"""How pseudo pairs are retrieved: by all items of a memory, or by those that carry the weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bridge.pseudo_pairs import Retriever, Rows, retrieve
from bridge.sparse_retrieval import retrieve_sparse
from features.products import fast_dtype
from features.rough import multiplies_bytes

_MANY, _ASKED = 65_536, 1024  # items and queries from which on sparse is faster than exact


def retriever(method: str) -> Retriever:
    """How to retrieve: `exact`, `sparse`, or `auto`, by what a memory's size is worth."""

    def by_size(
        queries: Tensor,
        keys: Rows,
        values: tuple[Rows, ...],
        *,
        temperature: float,
        advance: Callable[[int], None] = lambda _: None,
    ) -> tuple[Tensor, ...]:
        device = queries.device
        fast = multiplies_bytes(device) or fast_dtype(device) == torch.bfloat16
        worth = fast and len(keys) >= _MANY and len(queries) >= _ASKED
        if method == "sparse" or (method == "auto" and worth):
            found = retrieve_sparse(queries, keys, values, temperature=temperature, advance=advance)
            return found.values
        return retrieve(queries, keys, values, temperature=temperature, advance=advance)

    return by_size
