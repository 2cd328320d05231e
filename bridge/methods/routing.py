"""Hub routing: two items of modalities that were never paired agree where they agree on the hub.

`p(t | x) = softmax_t(<x, h_t> / temperature)` over the hub items h of x's own space; the
agreement of a and v is the Bhattacharyya coefficient `sum_t sqrt(p(t | a) p(t | v))`. Only the
largest probabilities of each item are kept. Scores come in blocks of items and hub items, with a
running logarithm of the sum of their exponentials and the best so far, so that memory use depends
on neither number.

Axes: m items of a memory, n hub items, k probabilities that are kept, d dimensions; in a block, b
items, h hub items, j chunks of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.pseudo_pairs.exact import Rows
from features.products import product

KEPT = 64
_ITEMS = 2048  # at a time
_SCORES = 1 << 22  # at a time; 16 MiB, which the caches hold
_CHUNK = 16  # hub items that share a maximum
_CANDIDATES = 1 << 20  # that are sorted at a time
_LARGER = 16  # as much at a time on a GPU


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
    hub: Rows,
    *,
    temperature: float,
    kept: int = KEPT,
    advance: Callable[[int], None] = lambda _: None,
) -> Posteriors:
    """`p(t | x)` of every item x, without what is not among its `kept` most probable, best first.

    hub: (n, d).
    """
    k = min(kept, len(hub))
    rows = torch.empty(len(items), k, dtype=torch.long, device=items.device)
    probability = items.new_empty(len(items), k)
    for start in range(0, len(items), _ITEMS):
        part = slice(start, start + _ITEMS)
        probability[part], rows[part] = _most_probable(items[part] / temperature, hub, k)
        advance(len(rows[part]))
    return Posteriors(rows, probability)


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
    Where fewer than `kept` hub items have any probability, others follow with none.
    advance: called with the items whose neighbours are found, and again when they are smoothed.
    """
    near = posteriors(items, items, temperature=temperature, kept=neighbours, advance=advance)
    k = min(kept, hub_items)
    hub = torch.empty(len(items), k, dtype=torch.long, device=items.device)
    probability = items.new_empty(len(items), k)
    width = own.hub.shape[1] * (1 + near.hub.shape[1])
    block = max(1, _room(_CANDIDATES, items) // width)
    for start in range(0, len(items), block):
        part = slice(start, start + block)
        mine, other = own[part], own[near.hub[part].flatten()]
        count = len(mine)
        weight = share * near.probability[part, :, None]
        places = torch.cat([mine.hub, other.hub.view(count, -1)], dim=1)
        spread = (weight * other.probability.view(*weight.shape[:2], -1)).view(count, -1)
        values = torch.cat([(1 - share) * mine.probability, spread], dim=1)
        probability[part], hub[part] = _merged(places, values, k)
        advance(count)
    return Posteriors(hub, probability)


def agreement(left: Posteriors, right: Posteriors) -> Float[Tensor, "b c"]:
    """`sum_t sqrt(p(t | a) p(t | v))` of every pair: 1 for the same beliefs, 0 for none shared."""
    known, columns = torch.unique(
        torch.cat([left.hub.flatten(), right.hub.flatten()]), return_inverse=True
    )
    first = left.hub.numel()
    tables = [
        # Hub items without probability may come twice.
        one.probability.new_zeros(len(one), len(known)).scatter_add_(
            1, places.view_as(one.hub), one.probability.sqrt()
        )
        for one, places in ((left, columns[:first]), (right, columns[first:]))
    ]
    return tables[0] @ tables[1].T


def _room(size: int, like: Tensor) -> int:
    return size * _LARGER if like.device.type == "cuda" else size


def _most_probable(
    items: Float[Tensor, "b d"], hub: Rows, k: int
) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
    """The k highest probabilities and their hub items. items: divided by the temperature.

    The first block gives k scores of every item. Of later ones, only chunks whose maximum is
    higher than the k-th best so far are looked at. No block is larger than all before it, so that
    these are few from the beginning.
    """
    size = max(_CHUNK, _room(_SCORES, items) // len(items) // _CHUNK * _CHUNK)
    edges = [0, min(-(-4 * k // _CHUNK) * _CHUNK, size, len(hub))]
    while edges[-1] < len(hub):
        edges.append(min(2 * edges[-1], edges[-1] + size, len(hub)))
    best, rows = items.new_empty(len(items), 0), None
    highest = items.new_full((len(items),), -torch.inf)
    total = items.new_zeros(len(items))
    for start, stop in pairwise(edges):
        scores = product(hub[start:stop].to(items), items)  # (h, b)
        chunks = scores[: len(scores) // _CHUNK * _CHUNK].view(-1, _CHUNK, len(items))
        rest = scores[len(chunks) * _CHUNK :]
        maxima = chunks.amax(dim=1)  # (j, b)
        if len(rest):  # one by one
            maxima = torch.cat([maxima, rest])
        if rows is None or best.shape[1] < k:
            found, place = scores.T.topk(min(k, len(scores)), dim=1)
        else:
            found, place = _higher(chunks, rest, maxima, best[:, -1])
        rows = place + start if rows is None else torch.cat([rows, place + start], dim=1)
        best = torch.cat([best, found], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        rows = rows.gather(1, order)
        above = torch.maximum(highest, maxima.amax(dim=0))
        total.mul_(torch.exp(highest - above)).add_(scores.sub_(above).exp_().sum(dim=0))
        highest = above
    assert rows is not None
    return torch.exp(best - (highest + total.log())[:, None]), rows


def _higher(
    chunks: Float[Tensor, "c 16 b"],
    rest: Float[Tensor, "r b"],
    maxima: Float[Tensor, "j b"],
    bar: Float[Tensor, " b"],
) -> tuple[Float[Tensor, "b w"], Int[Tensor, "b w"]]:
    """Scores above the bar and their places in the block, -inf where an item has fewer."""
    chunk, item = (maxima[: len(chunks)] > bar).nonzero(as_tuple=True)
    inside = chunks[chunk, :, item]
    pair, member = (inside > bar[item, None]).nonzero(as_tuple=True)
    single, of = (rest > bar).nonzero(as_tuple=True)
    item = torch.cat([item[pair], of])
    place = torch.cat([chunk[pair] * _CHUNK + member, single + len(chunks) * _CHUNK])
    score = torch.cat([inside[pair, member], rest[single, of]])
    order = item.argsort(stable=True)
    item, place, score = item[order], place[order], score[order]
    counts = torch.bincount(item, minlength=len(bar))
    column = torch.arange(len(item), device=item.device) - (counts.cumsum(0) - counts)[item]
    shape = (len(bar), int(counts.max()))
    found = score.new_full(shape, -torch.inf).index_put_((item, column), score)
    return found, place.new_zeros(shape).index_put_((item, column), place)


def _merged(
    places: Int[Tensor, "b w"], values: Float[Tensor, "b w"], k: int
) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
    """The k largest sums of the values at the same place, and these places."""
    places, order = places.sort(dim=1)
    values = values.gather(1, order)
    new = places[:, 1:] != places[:, :-1]
    run = torch.cat([new.new_zeros(len(new), 1), new], dim=1).long().cumsum(dim=1)
    sums = torch.zeros_like(values).scatter_add_(1, run, values)
    # Runs that there are not have the first place, and no value.
    place_of = places[:, :1].expand_as(places).clone().scatter_(1, run, places)
    if sums.shape[1] < k:
        missing = k - sums.shape[1]
        sums = torch.cat([sums, sums.new_zeros(len(sums), missing)], dim=1)
        place_of = torch.cat([place_of, place_of[:, :1].expand(-1, missing)], dim=1)
    best, column = sums.topk(k, dim=1)
    return best, place_of.gather(1, column)
