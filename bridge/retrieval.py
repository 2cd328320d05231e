"""How pseudo pairs are retrieved: by all items of a memory, or by those that carry the weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bridge.fused_retrieval import fits_fused, retrieve_fused
from bridge.pseudo_pairs import Retriever, Rows, retrieve
from bridge.sparse_retrieval import retrieve_sparse
from features.errors import UserError

_MANY, _ASKED = 32_768, 1024  # items and queries from which on others are faster than exact


def retriever(method: str) -> Retriever:
    """How to retrieve: `exact`, `sparse`, or `auto`, by what a memory's size is worth.

    It raises UserError if retrieval is sparse but not of tensors on a CPU.
    """

    def retrieve_so(
        queries: Tensor,
        keys: Rows,
        values: tuple[Rows, ...],
        *,
        temperature: float,
        advance: Callable[[int], None] = lambda _: None,
    ) -> tuple[Tensor, ...]:
        many = len(keys) >= _MANY and len(queries) >= _ASKED
        if method == "exact" or (method == "auto" and not many):
            return _by_all(queries, keys, values, temperature, advance)
        if method == "auto" and fits_fused(queries, keys, values, temperature=temperature):
            return retrieve_fused(queries, keys, values, temperature=temperature, advance=advance)
        tables = [one for one in (keys, *values) if isinstance(one, Tensor)]
        device = queries.device.type
        if device == "cpu" and isinstance(keys, Tensor) and len(tables) == len(values) + 1:
            found = retrieve_sparse(
                queries, keys, tuple(tables[1:]), temperature=temperature, advance=advance
            )
            return found.values
        if method == "sparse":
            where = f"on the device {device}" if device != "cpu" else "read from disk"
            raise UserError(
                "retrieval is sparse, which is made for a CPU and memories that fit into RAM, but "
                f"a memory is {where}: choose --retrieval auto, which takes what there is"
            )
        return _by_all(queries, keys, values, temperature, advance)

    return retrieve_so


def _by_all(
    queries: Tensor,
    keys: Rows,
    values: tuple[Rows, ...],
    temperature: float,
    advance: Callable[[int], None],
) -> tuple[Tensor, ...]:
    # Scores of half-precision queries would be made in half precision.
    queries = queries.to(torch.promote_types(queries.dtype, torch.float32))
    return retrieve(queries, keys, values, temperature=temperature, advance=advance)
