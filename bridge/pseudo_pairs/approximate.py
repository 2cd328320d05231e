"""Softmax retrieval by the neighbours that a FAISS index finds, for memories beyond exact reach.

The `kept` items that the index finds are scored in float32 and weighed as the formula has it. Of
the rest, the tail, a systematic sample is scored as well, whether or not the index should have
found it. It gives the tail's mass and an unbiased estimate of its vector, which scatters; another
that does not scatter, but may be wrong, is more of what the lower half of the kept items is. They
are joined by the positive-part James-Stein rule (Baranchik 1964): the second, and as much of the
difference to the first as its scatter does not explain. Queries for which even that scatters too
much are answered by all items, as are memories no larger than the sample.

Axes: n queries, m memory items, d dimensions, e of the values, s sampled items, k kept ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from bridge.pseudo_pairs.exact import Rows, retrieve
from bridge.pseudo_pairs.neighbours import spread
from features.products import product

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 256
TOLERANCE = 5e-3  # of the cosine; queries that are estimated to be further off are answered by all
SAMPLED = 8192
RECALL_QUERIES, RECALL_AT, RECALL_WANTED = 256, 10, 0.99
_FLAT = 32_768  # items; an index of fewer cells would not be faster
_ROWS_PER_CELL = 64  # that k-means sees
_BLOCK = 65_536  # items added at a time
_ASKED = 1024
_TOGETHER = 32  # queries whose kept items are gathered at once
_TINY = 1e-30


class Approximated(NamedTuple):
    """What a memory holds for queries.

    values: unit rows, one tensor (n, e) for each table of values. outside: (n,), the share of the
    softmax outside of the kept items, estimated. error: (n,), the cosine error, estimated from the
    scatter of the sample; 0 where all items answered. exact: how many queries these were. recall:
    share of the 10 nearest items that are among the kept, over some queries. kind: of the index.
    """

    values: tuple[Tensor, ...]
    outside: Float[Tensor, " n"]
    error: Float[Tensor, " n"]
    exact: int
    recall: float
    kind: str

    def told(self) -> str:
        """A sentence for the user."""
        outside = f"{float(self.outside.mean()):.1%} (at most {float(self.outside.max()):.1%})"
        return (
            f"approximate retrieval by {self.kind}: recall@{RECALL_AT} {self.recall:.3f}, about "
            f"{outside} of the softmax outside of the kept items, {self.exact:,} of "
            f"{len(self.outside):,} queries answered by all items"
        )


def retrieve_approximate(
    queries: Float[Tensor, "n d"],
    keys: Rows,
    values: tuple[Rows, ...] = (),
    *,
    temperature: float,
    index: Any = None,
    kept: int = KEPT,
    advance: Callable[[int], None] = lambda _: None,
) -> Approximated:
    """For every query, `normalize(sum_k softmax_k(q . key_k / temperature) value_k)`, nearly.

    keys: unit rows. values: default to the keys. index: a FAISS index of the keys by inner product;
    one is built where it is None. advance: called with the number of queries that are done; half of
    them stand for the index where it is built.
    """
    queries, values = queries.float().contiguous(), values or (keys,)
    if len(keys) <= SAMPLED or not len(queries):
        found = retrieve(queries, keys, values, temperature=temperature, advance=advance)
        nothing = queries.new_zeros(len(queries))
        return Approximated(found, nothing, nothing, len(queries), 1.0, "none")
    halves = _Halves(advance, len(queries), len(keys) if index is None else 0)
    searched = build_cells(keys, halves.built) if index is None else index
    kept = max(RECALL_AT, min(kept, len(keys)))
    recall = _tuned(searched, queries, keys, kept)
    tail = _Tail(keys, values, queries.device)
    outputs = tuple(queries.new_empty(len(queries), value.shape[1]) for value in values)
    outside, error = queries.new_empty(len(queries)), queries.new_empty(len(queries))
    for start in range(0, len(queries), _ASKED):
        part = slice(start, start + _ASKED)
        block = queries[part]
        rows = _found(searched, block, kept)
        answer, outside[part], error[part] = _answer(block, keys, values, rows, tail, temperature)
        for output, made in zip(outputs, answer, strict=True):
            output[part] = made
        halves.asked(int((error[part] <= TOLERANCE).sum()))
    wrong = (error > TOLERANCE).nonzero().squeeze(1)
    if len(wrong):
        exact = retrieve(
            queries[wrong], keys, values, temperature=temperature, advance=halves.asked
        )
        for output, made in zip(outputs, exact, strict=True):
            output[wrong] = made
        error[wrong] = 0
    return Approximated(outputs, outside, error, len(wrong), recall, type(searched).__name__)


def build_cells(keys: Rows, advance: Callable[[int], None] = lambda _: None) -> Any:
    """A FAISS index of the keys by inner product, with a byte a number.

    Every query is asked once, and to build a graph (HNSW) takes as long as to ask for every item:
    cells (IVF) are built faster. A small memory is compared as it is. advance: called with the
    number of items that are added.
    """
    import faiss

    items, dimension = keys.shape
    cells = min(round(4 * items**0.5), items // 39)  # FAISS wants 39 points a cell
    kind = "Flat" if items <= _FLAT else f"IVF{cells},SQ8"
    index: Any = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.cp.seed = 0
        rows = spread(items, max(1, items // (_ROWS_PER_CELL * cells)))
        index.train(_array(_at(keys, rows)))
    for start in range(0, items, _BLOCK):
        block = keys[start : start + _BLOCK]
        index.add(_array(block))
        advance(len(block))
    return index


class _Halves:
    """Tells how far an index is built, and then how many queries are asked, as so many queries."""

    def __init__(self, advance: Callable[[int], None], queries: int, items: int) -> None:
        self.advance, self.queries, self.items = advance, queries, items
        self.done, self.told = 0.0, 0

    def built(self, items: int) -> None:
        self._more(items / self.items * self.queries / 2)

    def asked(self, queries: int) -> None:
        self._more(queries / 2 if self.items else queries)

    def _more(self, queries: float) -> None:
        self.done += queries
        whole = int(self.done + 1e-6)
        self.advance(whole - self.told)
        self.told = whole


def _tuned(index: Any, queries: Tensor, keys: Rows, kept: int) -> float:
    """Recall, after as much of the index is searched as that takes; scattered items take all."""
    import faiss

    some = queries[spread(len(queries), -(-len(queries) // RECALL_QUERIES)).to(queries.device)]
    floor = _best_scores(some, keys, RECALL_AT)[:, -1:] - 1e-6

    def recall() -> float:
        scores = _scored(some, keys, _found(index, some, kept))
        return float((scores.topk(RECALL_AT, dim=1).values >= floor).float().mean())

    cells = faiss.try_extract_index_ivf(index)
    if cells is not None:
        cells.nprobe = max(cells.nprobe, min(cells.nlist, 16))
        while recall() < RECALL_WANTED and cells.nprobe < cells.nlist:
            cells.nprobe = min(2 * cells.nprobe, cells.nlist)
    elif isinstance(index, faiss.IndexHNSW):
        while recall() < RECALL_WANTED and index.hnsw.efSearch < 1024:
            index.hnsw.efSearch *= 2
    return recall()


def _best_scores(queries: Tensor, keys: Rows, k: int) -> Float[Tensor, "n k"]:
    best = queries.new_empty(len(queries), 0)
    for start in range(0, len(keys), _BLOCK):
        scores = product(queries, keys[start : start + _BLOCK].to(queries))
        best = torch.cat([best, scores], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return best


def _found(index: Any, queries: Tensor, k: int) -> Int[Tensor, "n k"]:
    """Rows of the nearest items, -1 where the index found none."""
    _, rows = index.search(_array(queries), k)
    return torch.from_numpy(rows).to(queries.device)


def _scored(queries: Tensor, keys: Rows, rows: Tensor) -> Float[Tensor, "n k"]:
    """Exact scores, -inf where there is no item."""
    parts = []
    for start in range(0, len(queries), _TOGETHER):
        chosen = rows[start : start + _TOGETHER]
        items = _items(keys, chosen, queries)
        parts.append((queries[start : start + _TOGETHER, None] @ items.transpose(1, 2)).squeeze(1))
    return torch.cat(parts).masked_fill(rows < 0, -torch.inf)


def _items(table: Rows, rows: Tensor, like: Tensor) -> Float[Tensor, "n k e"]:
    return _at(table, rows.clamp_min(0).flatten()).to(like).view(*rows.shape, -1)


@dataclass
class _Tail:
    """A sample of the memory. rows: which, ascending. rate: items that one of them stands for."""

    keys_of: Rows
    values_of: tuple[Rows, ...]
    device: torch.device

    def __post_init__(self) -> None:
        items = len(self.keys_of)
        rows = spread(items, -(-items // SAMPLED))
        self.rate = items / len(rows)
        self.keys = _at(self.keys_of, rows).to(self.device).float()
        self.values = [_at(value, rows).to(self.device).float() for value in self.values_of]
        self.rows = rows.to(self.device)

    def left(self, found: Int[Tensor, "n k"]) -> Float[Tensor, "n s"]:
        """1 for sampled items that are not among the found ones, 0 for others."""
        place = torch.searchsorted(self.rows, found.clamp_min(0)).clamp_max(len(self.rows) - 1)
        there = (self.rows[place] == found).to(self.keys.dtype)
        left = self.keys.new_ones(len(found), len(self.rows))
        return left.scatter_add_(1, place, -there)


def _answer(
    queries: Tensor,
    keys: Rows,
    values: tuple[Rows, ...],
    rows: Int[Tensor, "n k"],
    tail: _Tail,
    temperature: float,
) -> tuple[list[Tensor], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Values, the share outside of the kept, and the estimated error."""
    scores = _scored(queries, keys, rows)
    order = scores.argsort(dim=1, descending=True)
    scores, rows = scores.gather(1, order), rows.gather(1, order)
    left = tail.left(rows)
    sampled = product(queries, tail.keys).masked_fill_(left == 0, -torch.inf)
    best = torch.maximum(scores[:, :1], sampled.amax(dim=1, keepdim=True))
    weights = torch.exp((scores - best) / temperature)
    outer = tail.rate * torch.exp((sampled - best) / temperature)
    mass = outer.sum(dim=1, keepdim=True)
    half = (weights.shape[1] + 1) // 2
    lower_mass = weights[:, half:].sum(dim=1, keepdim=True)
    answers, error = [], queries.new_zeros(len(queries))
    for value, of_sample in zip(values, tail.values, strict=True):
        upper, lower = _sums(value, rows, weights, half)
        like_lower = lower / lower_mass.clamp_min(_TINY)
        apart = outer @ of_sample - mass * like_lower
        scatter = _scatter(outer, of_sample, like_lower)
        trusted = (1 - scatter / apart.square().sum(dim=1).clamp_min(_TINY)).clamp_min(0)
        total = upper + lower + mass * like_lower + trusted[:, None] * apart
        answers.append(F.normalize(total, dim=1))
        off = scatter / (2 * total.square().sum(dim=1).clamp_min(_TINY))
        error = torch.maximum(error, off)
    inside = weights.sum(dim=1, keepdim=True)
    return answers, (mass / (mass + inside)).squeeze(1), error


def _sums(
    value: Rows, rows: Tensor, weights: Tensor, half: int
) -> tuple[Float[Tensor, "n e"], Float[Tensor, "n e"]]:
    """Weighted sums of the upper and of the lower half of the kept items."""
    upper, lower = (weights.new_empty(len(rows), value.shape[1]) for _ in range(2))
    for start in range(0, len(rows), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        items, weight = _items(value, rows[part], weights), weights[part, None]
        upper[part] = (weight[..., :half] @ items[:, :half]).squeeze(1)
        lower[part] = (weight[..., half:] @ items[:, half:]).squeeze(1)
    return upper, lower


def _scatter(
    weights: Float[Tensor, "n s"], items: Float[Tensor, "s e"], centre: Float[Tensor, "n e"]
) -> Float[Tensor, " n"]:
    """`sum_s w_s^2 |v_s - centre|^2`: how far from its mean a sum of sampled items is, squared."""
    sizes = items.square().sum(dim=1)
    squares = weights.square()
    total = squares.sum(dim=1)
    far = squares @ sizes - 2 * ((squares @ items) * centre).sum(dim=1)
    return (far + total * centre.square().sum(dim=1)).clamp_min(0)


def _at(table: Rows, rows: Tensor) -> Tensor:
    return table.index_select(0, rows.to(table.device) if isinstance(table, Tensor) else rows)


def _array(rows: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows.detach().float().cpu().numpy())
