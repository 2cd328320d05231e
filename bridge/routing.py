"""Hub routing: two items of modalities that were never paired agree where they agree on the hub.

`p(t | x) = softmax_t(<x, h_t> / temperature)` over the hub items h of x's own space; the
agreement of a and v is the Bhattacharyya coefficient `sum_t sqrt(p(t | a) p(t | v))`. Only the
largest probabilities of each item are kept, and rows come in blocks, so that the m x n table of a
memory and a large hub is never held.

Axes: m items of a memory, n hub items, k probabilities that are kept, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.leaf_rows import LeafRows, in_blocks
from features.streamed_rows import StreamedRows

KEPT = 64
_TABLE = 1 << 24  # probabilities held at once


@dataclass(frozen=True)
class Posteriors:
    """The k most probable hub items of every item; probabilities sum to at most 1."""

    hub: Int[Tensor, "m k"]
    probability: Float[Tensor, "m k"]

    def __len__(self) -> int:
        return len(self.hub)

    def __getitem__(self, rows: Tensor | slice) -> Posteriors:
        return Posteriors(self.hub[rows], self.probability[rows])


def posteriors(
    items: Float[Tensor, "m d"],
    hub: LeafRows,
    *,
    temperature: float,
    kept: int = KEPT,
    advance: Callable[[int], None] = lambda _: None,
) -> Posteriors:
    """`p(t | x)` of every item x, without what is not among its `kept` most probable.

    hub: (n, d). A file is read once, for all items, whose table with it is never whole either.
    """
    if not isinstance(hub, Tensor):
        found = _streamed(items, hub, temperature, min(kept, len(hub)))
        advance(len(items))
        return found

    def rows(start: int, stop: int) -> Tensor:
        return torch.softmax(items[start:stop] @ hub.T / temperature, dim=1)

    return _most_probable(rows, len(items), len(hub), kept, items, advance)


def smoothed(
    own: Posteriors,
    items: Float[Tensor, "m d"],
    *,
    hub_items: int,
    share: float,
    temperature: float,
    neighbours: int = KEPT,
    kept: int = KEPT,
    advance: Callable[[int], None] = lambda _: None,
) -> Posteriors:
    """`(1 - share) p(t | x) + share sum_y q(y | x) p(t | y)` over the memory's own items y.

    `q(y | x) = softmax_y(<x, y> / temperature)`, of x's nearest `neighbours` (itself among them):
    unpaired data that is there anyway says what an item that is hard to place resembles.
    """
    near = posteriors(items, items, temperature=temperature, kept=neighbours)

    def rows(start: int, stop: int) -> Tensor:
        table = items.new_zeros(stop - start, hub_items)
        table.scatter_add_(1, own.hub[start:stop], (1 - share) * own.probability[start:stop])
        for place in range(near.hub.shape[1]):
            other = own[near.hub[start:stop, place]]
            weight = share * near.probability[start:stop, place, None]
            table.scatter_add_(1, other.hub, weight * other.probability)
        return table

    return _most_probable(rows, len(items), hub_items, kept, items, advance)


def agreement(left: Posteriors, right: Posteriors) -> Float[Tensor, "b c"]:
    """`sum_t sqrt(p(t | a) p(t | v))` of every pair: 1 for the same beliefs, 0 for none shared."""
    known, columns = torch.unique(
        torch.cat([left.hub.flatten(), right.hub.flatten()]), return_inverse=True
    )
    first = left.hub.numel()
    tables = [
        one.probability.new_zeros(len(one), len(known)).scatter_(
            1, places.view_as(one.hub), one.probability.sqrt()
        )
        for one, places in ((left, columns[:first]), (right, columns[first:]))
    ]
    return tables[0] @ tables[1].T


def _streamed(
    items: Float[Tensor, "m d"], hub: StreamedRows, temperature: float, kept: int
) -> Posteriors:
    """The highest scores so far, and the logarithm of the sum that they are a part of."""
    score, row = items.new_empty(len(items), 0), items.new_empty(len(items), 0, dtype=torch.long)
    total = items.new_full((len(items), 1), -torch.inf)
    first = 0
    for block in in_blocks(hub):
        scores = items @ block.T / temperature
        total = torch.logaddexp(total, scores.logsumexp(dim=1, keepdim=True))
        rows = torch.arange(first, first + len(block), device=items.device)
        first += len(block)
        score, place = torch.cat([score, scores], dim=1).topk(min(kept, first), dim=1)
        row = torch.cat([row, rows.expand(len(items), -1)], dim=1).gather(1, place)
    return Posteriors(row, torch.exp(score - total))


def _most_probable(
    rows: Callable[[int, int], Tensor],
    items: int,
    hub_items: int,
    kept: int,
    like: Tensor,
    advance: Callable[[int], None],
) -> Posteriors:
    k = min(kept, hub_items)
    hub = torch.empty(items, k, dtype=torch.long, device=like.device)
    probability = like.new_empty(items, k)
    block = max(1, _TABLE // hub_items)
    for start in range(0, items, block):
        stop = min(items, start + block)
        probability[start:stop], hub[start:stop] = rows(start, stop).topk(k, dim=1)
        advance(stop - start)
    return Posteriors(hub, probability)
