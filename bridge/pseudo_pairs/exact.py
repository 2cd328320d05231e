"""Pseudo pairs: what a memory holds for a query, by softmax retrieval (C-MCR, section 3.3).

Retrieval is attention with the memory as keys and values. It is streamed over blocks of
queries and of the memory with a running maximum and sum, so that the n x m scores are never
held: memory use does not depend on m. Where it pays, only the items that can carry weight are
multiplied in float32 (`bridge.pseudo_pairs.heavy`), which changes no cosine by more than 1e-6:
that is proven for each query, and those for which it cannot be are answered by all items.

Axes: n queries, m memory items, d dimensions. All rows have unit L2 norm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bridge.pseudo_pairs.heavy import fits_heavy, retrieve_heavy
from bridge.pseudo_pairs.partial import add_block
from features.cores import on_every_core

_SHARE, _MOST_SHARE = 256, 2048  # queries of a core


class Rows(Protocol):
    """Embeddings of a memory: a tensor, or a file that is read block by block."""

    @property
    def shape(self) -> torch.Size:
        """(m, d)."""

    def __len__(self) -> int:
        """How many items."""

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Consecutive rows, or every so many."""

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """The rows at `index`; dim is 0."""


def retrieve(
    queries: Float[Tensor, "n d"],
    keys: Rows,
    values: tuple[Rows, ...] = (),
    *,
    temperature: float,
    query_block: int | None = None,
    key_block: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, ...]:
    """For every query, `normalize(sum_k softmax_k(q . key_k / temperature) value_k)`.

    Returns one tensor (n, e) for each of `values`, which default to the keys themselves.
    advance: called with numbers of queries that add up to all; parts of the memory count as
    parts of the queries. What is not a tensor is read once, for all queries. The blocks are
    chosen by the device unless given; with given ones all items are taken.

    The cosine error is that of float32, or below 1e-6 where `fits_heavy`: what items that are left
    out would have added is then bounded by their highest possible weights, query by query.
    """
    values = values or (keys,)
    tables = [table for table in (keys, *values) if isinstance(table, Tensor)]
    held = len(tables) == 1 + len(values)
    if not (held and fits_heavy(queries, keys)) or query_block or key_block:
        return _retrieve_all(
            queries, keys, values, temperature, query_block, key_block, held, advance
        )
    outputs = tuple(queries.new_empty(len(queries), value.shape[1]) for value in values)
    tried, wrong = retrieve_heavy(
        queries, tables[0], tables[1:], outputs, temperature=temperature, advance=advance
    )
    others = torch.arange(tried, len(queries))
    for rows, tell in ((wrong, lambda _: None), (others, advance)):
        if len(rows):
            found = _retrieve_all(queries[rows], keys, values, temperature, None, None, held, tell)
            for output, made in zip(outputs, found, strict=True):
                output[rows] = made
    return outputs


def _retrieve_all(
    queries: Tensor,
    keys: Rows,
    values: tuple[Rows, ...],
    temperature: float,
    query_block: int | None,
    key_block: int | None,
    held: bool,
    advance: Callable[[int], None],
) -> tuple[Tensor, ...]:
    """By all items."""
    outputs = tuple(queries.new_zeros(len(queries), value.shape[1]) for value in values)
    share = -(-len(queries) // torch.get_num_threads())
    # Each core has queries of its own, if there are many: every part passes the whole memory.
    on_cores = held and queries.device.type == "cpu" and share >= _SHARE
    query_block = query_block or (min(_MOST_SHARE, share) if on_cores else 1024)
    key_block = key_block or (1024 if on_cores else 4096)
    together = query_block if held else max(1, len(queries))

    def tell(go_on: Callable[[], None]) -> Callable[[int], None]:
        def told(done: int) -> None:
            go_on()
            advance(done)

        return told

    def answer(start: int, go_on: Callable[[], None]) -> None:
        part = slice(start, start + together)
        sums = [output[part] for output in outputs]
        _retrieve_part(
            queries[part], keys, values, sums, temperature, query_block, key_block, tell(go_on)
        )

    parts = range(0, len(queries), together)
    if on_cores:
        on_every_core(answer, parts)
    else:
        for start in parts:
            answer(start, lambda: None)
    return outputs


def _retrieve_part(
    queries: Tensor,
    keys: Rows,
    values: tuple[Rows, ...],
    sums: list[Tensor],
    temperature: float,
    query_block: int,
    key_block: int,
    advance: Callable[[int], None],
) -> None:
    """Online softmax: `sums` are rescaled whenever a block raises the running maximum.

    The normaliser of the softmax cancels in the final normalisation and is never computed.
    """
    best = queries.new_full((len(queries), 1), -torch.inf)
    done = 0
    for start in range(0, len(keys), key_block):
        tables = {id(table): table for table in (keys, *values)}
        blocks = {
            name: table[start : start + key_block].to(queries) for name, table in tables.items()
        }
        columns = {id(value): blocks[id(value)].T.contiguous() for value in values}
        for first in range(0, len(queries), query_block):
            rows = slice(first, first + query_block)
            add_block(
                queries[rows],
                blocks[id(keys)],
                [columns[id(value)] for value in values],
                best[rows],
                [total[rows] for total in sums],
                temperature,
            )
        before, done = done, len(queries) * min(start + key_block, len(keys)) // len(keys)
        advance(done - before)
    for total in sums:
        F.normalize(total, dim=-1, out=total)


class Retriever(Protocol):
    """Something with the meaning of `retrieve`."""

    def __call__(
        self,
        queries: Tensor,
        keys: Rows,
        values: tuple[Rows, ...],
        *,
        temperature: float,
        advance: Callable[[int], None] = ...,
    ) -> tuple[Tensor, ...]:
        """One tensor for each of `values`."""


def leaf_centred(
    leaf: Float[Tensor, "k d"],
    hub: Float[Tensor, "n d"],
    other_hub: Float[Tensor, "n e"],
    other_leaf: Float[Tensor, "m e"] | None,
    *,
    by: Retriever = retrieve,
    temperature: float,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pseudo pairs around the items of a leaf memory (as in Ex-MCR, arXiv 2310.08884).

    `hub` and `other_hub` hold the same items in both spaces. Each leaf item retrieves hub
    items in its own space; the same weights give its hub embedding in the other space; and
    that retrieves from the other leaf memory. Returns (k, d), (k, e) and (k, e) or None.
    by: `retrieve`, or what stands in for it. advance: called with the number of leaf items that
    are done; of the two retrievals, both count.
    """
    own, other = by(leaf, hub, (hub, other_hub), temperature=temperature, advance=advance)
    if other_leaf is None:
        return own, other, None
    (last,) = by(other, other_leaf, (other_leaf,), temperature=temperature, advance=advance)
    return own, other, last
