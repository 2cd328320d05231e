"""The nearest items of a memory, found with rough scores that are never all held.

Scores come in blocks, as fast as the device makes them, and of every few items only the maximum
is compared: the `kept` best items are among the chunks with the `kept` highest maxima.

Axes: n queries, m memory items, d dimensions, k items of a block of the memory, j chunks of c
items, s sampled items.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.pseudo_pairs import Rows
from features.rough import RoughKeys, RoughQueries

_CHUNK = 16  # items that share a maximum
# Scores that are held at once, 26 MiB in bfloat16: the memory of larger blocks goes back to the
# system each time, and finding it anew costs a quarter of the time.
_SCORES = 13 << 20
_MOST_SAMPLED, _LEAST_RATE = 8192, 16


def spread(items: int, rate: int) -> Int[Tensor, " s"]:
    """One row of every `rate`, drawn by a fixed seed: a memory may have an order of its own."""
    starts = torch.arange(0, items, rate)
    widths = (items - starts).clamp_max(rate)
    drawn = torch.rand(len(starts), generator=torch.Generator().manual_seed(0))
    return starts + (drawn * widths).long()


class Nearest(NamedTuple):
    """The kept items of every query, best first, and a sample of all.

    score: rough; -inf where there are no more. sample: rough scores of every `rate`-th item.
    """

    score: Float[Tensor, "n kept"]
    row: Int[Tensor, "n kept"]
    sample: Float[Tensor, "n s"]

    @property
    def last(self) -> Float[Tensor, "n 1"]:
        """The lowest score that is kept."""
        return self.score.masked_fill(self.score == -torch.inf, torch.inf).amin(1, keepdim=True)


class Blocks:
    """A memory's keys in blocks, stored for rough products; those of a tensor are kept."""

    def __init__(self, keys: Rows, sample: Float[Tensor, "r d"], *, queries: int) -> None:
        """sample: some of the keys, on the device of the queries. queries: asked at a time."""
        self.keys, self.rough = keys, RoughKeys(sample)
        self.rate = max(_LEAST_RATE, -(-len(keys) // _MOST_SAMPLED))
        most = _SCORES // queries * (64 if sample.device.type == "cuda" else 1)
        size = -(-len(keys) // -(-len(keys) // most))
        starts = range(0, len(keys), size)
        self.rows = [slice(start, min(len(keys), start + size)) for start in starts]
        self._held = [self._load(rows) for rows in self.rows] if isinstance(keys, Tensor) else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        """Keys of a block, filled up to whole chunks."""
        return self._load(self.rows[index]) if self._held is None else self._held[index]

    def sampled(self, index: int) -> Int[Tensor, " s"]:
        """Which rows of a block are sampled."""
        rows = self.rows[index]
        return spread(rows.stop - rows.start, self.rate)

    def _load(self, rows: slice) -> Tensor:
        block = self.rough.block(self.keys[rows])
        missing = -len(block) % _CHUNK
        return torch.cat([block, block[:1].expand(missing, -1)]) if missing else block


def find_nearest(queries: Float[Tensor, "n d"], blocks: Blocks, kept: int) -> Nearest:
    """The `kept` items of highest rough score. Equal scores at the end come in any order."""
    rough = RoughQueries(queries, blocks.rough)
    found, samples = [], []
    for index, rows in enumerate(blocks.rows):
        scores = rough.scores(blocks[index])
        scores[rows.stop - rows.start :] = -torch.inf
        samples.append(scores.index_select(0, blocks.sampled(index).to(scores.device)))
        best, row = _best_of(scores, kept)
        found.append((best, rows.start + row))
        if len(found) > 1:
            found = [_merged(found, kept)]
    ((score, row),) = found
    sample = torch.cat(samples).T.float()
    return Nearest(score.float() + rough.offset, row, sample + rough.offset)


def _best_of(scores: Float[Tensor, "k n"], kept: int) -> tuple[Tensor, Tensor]:
    """The best `kept` scores of every query and their rows, best first; fewer if k is less."""
    queries = scores.shape[1]
    chunks = scores.view(-1, _CHUNK, queries)
    maxima = chunks.amax(dim=1).T.contiguous()
    least = _threshold(maxima, kept)
    high = (maxima >= least).nonzero()
    query, chunk = high.unbind(1)
    there = chunks.permute(0, 2, 1)[chunk, query]
    inside = (there >= least[query]).nonzero()
    query, place = query[inside[:, 0]], inside[:, 1]
    counts = torch.bincount(query, minlength=queries)
    before = counts.cumsum(0) - counts  # the queries come in order
    column = torch.arange(len(query), device=query.device) - before[query]
    found = scores.new_full((queries, int(counts.max())), -torch.inf)
    found[query, column] = there[inside[:, 0], place]
    rows = torch.zeros(found.shape, dtype=torch.long, device=query.device)
    rows[query, column] = chunk[inside[:, 0]] * _CHUNK + place
    best, place = found.topk(min(kept, found.shape[1]), dim=1)
    return best, rows.gather(1, place)


def _threshold(maxima: Float[Tensor, "n j"], kept: int) -> Float[Tensor, "n 1"]:
    """A score that at least `kept` of the maxima reach, and few more.

    Guessed from some of the maxima, and lowered where the guess was too high.
    """
    chunks = maxima.shape[1]
    if chunks < kept:  # every item may be among them
        return maxima.new_full((len(maxima), 1), torch.finfo(maxima.dtype).min)
    if chunks <= 4 * kept:
        return maxima.topk(min(kept, chunks), dim=1).values[:, -1:]
    step = chunks // (4 * kept) + 1
    some = maxima[:, ::step]
    expected = kept / step
    rank = min(some.shape[1], int(expected + 2 * expected**0.5) + 1)
    guess = some.topk(rank, dim=1).values[:, -1:]
    reached = (maxima >= guess).sum(dim=1)
    low = (reached < kept).nonzero().squeeze(1)
    if len(low):
        guess[low] = maxima[low].topk(kept, dim=1).values[:, -1:]
    return guess


def _merged(found: list[tuple[Tensor, Tensor]], kept: int) -> tuple[Tensor, Tensor]:
    score, row = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    best, place = score.topk(min(kept, score.shape[1]), dim=1)
    return best, row.gather(1, place)
