"""How pseudo pairs are retrieved: by all items of a memory, or by those that carry the weight.

In approximate mode, which is taken only if it is asked for, an index finds these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bridge.approximate_retrieval import retrieve_approximate
from bridge.pseudo_pairs import Retriever, Rows, retrieve
from bridge.sparse_retrieval import retrieve_sparse
from features.errors import UserError
from features.memory import Memory
from features.products import fast_dtype
from features.rough import multiplies_bytes

if TYPE_CHECKING:
    from features.index import Index

Indices = Sequence[tuple[Rows, "Index"]]

_MANY, _ASKED = 65_536, 1024  # items and queries from which on sparse is faster than exact


class ApproximateRetrieval(UserWarning):
    """Tells how good an approximate retrieval was; it is raised where one was asked for."""


def retriever(method: str, indices: Indices = ()) -> Retriever:
    """How to retrieve: exact, sparse, approximate, or auto, by what a memory's size is worth.

    indices: with the table of keys that each is of; approximate takes them, or builds its own.
    """

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
        if method == "approximate":
            index = next((one.faiss_index for rows, one in indices if rows is keys), None)
            near = retrieve_approximate(
                queries, keys, values, temperature=temperature, index=index, advance=advance
            )
            warnings.warn(near.told(), ApproximateRetrieval, stacklevel=2)
            return near.values
        worth = fast and len(keys) >= _MANY and len(queries) >= _ASKED
        if method == "sparse" or (method == "auto" and worth):
            found = retrieve_sparse(queries, keys, values, temperature=temperature, advance=advance)
            return found.values
        return retrieve(queries, keys, values, temperature=temperature, advance=advance)

    return by_size


def index_beside(memory: Memory) -> Index | None:
    """The index NAME.faiss beside the memory NAME.h5, or None if there is none of this memory.

    Warns with ApproximateRetrieval where there is one that cannot be used.
    """
    path = memory.path.with_suffix(".faiss")
    if not path.exists():
        return None
    from features.index import open_index  # here, as faiss is slow to load

    try:
        index = open_index(path)
        if index.about["fingerprint"] == memory.fingerprint:
            return index
        reason = f"it is of the memory {index.about['fingerprint']}, not of {memory.fingerprint}"
    except UserError as error:
        reason = str(error)
    warnings.warn(
        f"{path} is not used for retrieval, another index is built: {reason}",
        ApproximateRetrieval,
        stacklevel=2,
    )
    return None
