"""How pseudo pairs are retrieved: by all items of a memory, or by those that carry the weight."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bridge.pseudo_pairs.approximate import retrieve_approximate
from bridge.pseudo_pairs.exact import Retriever, Rows, retrieve
from bridge.pseudo_pairs.fused import fits_fused, retrieve_fused
from bridge.pseudo_pairs.in_parts import retrieve_in_parts
from bridge.pseudo_pairs.sparse import retrieve_sparse
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.streamed_rows import StreamedRows
from features.tasks import Tasks

if TYPE_CHECKING:
    from features.search.index import FaissIndex

Indices = Sequence[tuple[Rows, "FaissIndex"]]

_MANY, _ASKED = 32_768, 1024  # items and queries from which on others are faster than exact


class RetrievalNote(UserWarning):
    """Tells how good a retrieval was that did not take all items."""


def retriever(method: str, indices: Indices = (), *, tasks: Tasks | None = None) -> Retriever:
    """How to retrieve: exact, sparse, approximate, or auto, by what a memory's size is worth.

    indices: with the table of keys that each is of; approximate takes them, or builds its own.
    tasks: where memories on the disk are asked, in parts; this process unless given.
    Raises UserError when retrieval is sparse but not of tensors on a CPU.
    """

    def by_size(
        queries: Tensor,
        keys: Rows,
        values: tuple[Rows, ...],
        *,
        temperature: float,
        advance: Callable[[int], None] = lambda _: None,
    ) -> tuple[Tensor, ...]:
        if method == "approximate":
            index = next((one.faiss_index for rows, one in indices if rows is keys), None)
            near = retrieve_approximate(
                queries, keys, values, temperature=temperature, index=index, advance=advance
            )
            warnings.warn(near.told(), RetrievalNote, stacklevel=2)
            return near.values
        many = len(keys) >= _MANY and len(queries) >= _ASKED
        if method == "sparse" or (method == "auto" and many):
            if method == "auto" and fits_fused(queries, keys, values, temperature=temperature):
                return retrieve_fused(
                    queries, keys, values, temperature=temperature, advance=advance
                )
            tables = [one for one in (keys, *values) if isinstance(one, Tensor)]
            if queries.device.type == "cpu" and len(tables) == 1 + len(values):
                sparse = retrieve_sparse(
                    queries, tables[0], tuple(tables[1:]), temperature=temperature, advance=advance
                )
                warnings.warn(sparse.told(), RetrievalNote, stacklevel=2)
                return sparse.values
            if method == "sparse":
                raise _not_sparse(queries)
        # Scores of half-precision queries would be made in half precision.
        queries = queries.to(torch.promote_types(queries.dtype, torch.float32))
        own = all(value is keys for value in values)
        if isinstance(keys, StreamedRows) and own and queries.device.type == "cpu":
            found = retrieve_in_parts(
                queries, keys, temperature=temperature, tasks=tasks, advance=advance
            )
            return (found,) * max(1, len(values))
        return retrieve(queries, keys, values, temperature=temperature, advance=advance)

    return by_size


def _not_sparse(queries: Tensor) -> UserError:
    device = queries.device.type
    where = f"on the device {device}" if device != "cpu" else "read from disk"
    return UserError(
        "retrieval is sparse, which is made for a CPU and memories that fit into RAM, but a memory "
        f"is {where}: choose --retrieval auto, which takes what there is"
    )


def index_beside(memory: Memory) -> FaissIndex | None:
    """The index NAME.faiss beside the memory NAME.h5, or None if there is none of this memory.

    Warns with RetrievalNote where there is one that cannot be used.
    """
    path = memory.path.with_suffix(".faiss")
    if not path.exists():
        return None
    from features.search.index import open_index  # here, as faiss is slow to load

    try:
        index = open_index(path)
        if index.about["fingerprint"] == memory.fingerprint:
            return index
        reason = f"it is of the memory {index.about['fingerprint']}, not of {memory.fingerprint}"
    except UserError as error:
        reason = str(error)
    warnings.warn(
        f"{path} is not used for retrieval, another index is built: {reason}",
        RetrievalNote,
        stacklevel=2,
    )
    return None
