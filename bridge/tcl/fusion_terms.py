"""ITM and MLM in training: which items are paired, and what the fusion encoder sees of them.

Nothing says which items of the leaf memories belong together, and mixtures of items have no parts.
For a hub item, a leaf item of each space is therefore drawn from those that its pseudo pair mixes,
with the same probabilities. Each side is the leaf of its space, or the hub where there is none.

Axes: n pairs, c candidates of a hub item, w words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from bridge.config import TrainSettings
from bridge.losses.matching import hard_negatives, masked_words, matching
from bridge.projector import Projector
from bridge.tcl.fusion import Fusion, FusionSpec, Side, Tokens, joined
from bridge.tcl.items import Items
from bridge.tcl.momentum import Momentum
from bridge.tcl.words import FIRST, MASK, PADDING, Vocabulary
from bridge.training.leaf_rows import loaded
from bridge.training.training_set import FrozenRows
from features.progress import Progress
from features.search.nearest import nearest

CANDIDATES = 8  # leaf items that a hub item is paired with; the rest have hardly a share
_AS_MASK, _AS_OTHER = 0.8, 0.1  # shares of the masked words, as BERT has them


@dataclass(frozen=True)
class _Partners:
    """Items of one side for every hub item.

    chances: None where the side is the hub itself, whose rows are the hub items.
    """

    space: str
    role: str
    items: Items
    wholes: Float[Tensor, "m d"]
    rows: Int[Tensor, "h c"] | None = None
    chances: Float[Tensor, "h c"] | None = None

    def draw(self, hub: Int[Tensor, " n"], noise: torch.Generator) -> Int[Tensor, " n"]:
        """An item for each of some hub items."""
        if self.rows is None or self.chances is None:
            return hub
        column = torch.multinomial(self.chances[hub], 1, generator=noise)
        return self.rows[hub].gather(1, column).squeeze(1)

    def tokens(self, rows: Int[Tensor, " n"]) -> Tokens:
        """What the fusion encoder sees of the items."""
        return Tokens.of(self.wholes[rows], *self.items.parts(rows, self.wholes))


class FusionTerms:
    """ITM and MLM on the items that hub items resemble."""

    def __init__(self, frozen: FrozenRows, settings: TrainSettings, progress: Progress) -> None:
        self.settings = settings
        self.modalities, self.ranks = frozen.modalities, frozen.ranks
        self.sides = [_partners(frozen, space, settings, progress) for space in frozen.hub]
        self.vocabulary = Vocabulary(())
        self.words: Tensor | None = None
        self.reader: int | None = None  # the side whose item is read; None: the hub item
        if settings.need.mlm:
            self._read_sentences(frozen)

    def _read_sentences(self, frozen: FrozenRows) -> None:
        """The sentences of the hub, or of the side that holds text."""
        space = next(iter(frozen.hub))
        items = frozen.items[space]["hub"]
        if items.modality != "text":
            self.reader = [side.items.modality for side in self.sides].index("text")
            items = self.sides[self.reader].items
        sentences = items.sentences
        self.vocabulary = Vocabulary.of(sentences, self.settings.mlm_vocabulary)
        self.words = self.vocabulary.encode(sentences).to(frozen.hub[space].device)

    def make(self, generator: torch.Generator) -> Fusion:
        """The fusion encoder, its initial weights from `generator`."""
        left, right = (
            Side(side.space, side.items.modality, side.wholes.shape[1], side.items.length)
            for side in self.sides
        )
        spec = FusionSpec(
            (left, right),
            self.settings.fusion_width,
            self.settings.fusion_layers,
            self.settings.fusion_heads,
            self.vocabulary.words,
        )
        return Fusion(spec, generator)

    def losses(
        self,
        hub: Int[Tensor, " n"],
        state: Momentum,
        projectors: Mapping[str, Projector],
        alpha: float,
        noise: torch.Generator,
    ) -> dict[str, Tensor]:
        """The terms of some hub items."""
        assert state.fusion is not None
        rows = [side.draw(hub, noise) for side in self.sides]
        tokens = [side.tokens(mine) for side, mine in zip(self.sides, rows, strict=True)]
        terms = {}
        if self.settings.need.itm:
            terms["itm"] = self._itm(rows, tokens, state, projectors, noise)
        if self.settings.need.mlm:
            terms["mlm"] = self._mlm(hub, rows, tokens, state, alpha, noise)
        return terms

    def _itm(
        self,
        rows: list[Tensor],
        tokens: list[Tokens],
        state: Momentum,
        projectors: Mapping[str, Projector],
        noise: torch.Generator,
    ) -> Tensor:
        assert state.fusion is not None
        shared = [
            state.settled(
                side.space,
                projectors[side.space].centred(side.wholes[mine], side.items.modality),
            )
            for side, mine in zip(self.sides, rows, strict=True)
        ]
        logits = shared[0] @ shared[1].T / state.temperature.detach()
        known = _paired(*rows)
        lefts, wrong_right = hard_negatives(logits, known, generator=noise)
        rights, wrong_left = hard_negatives(logits.T, known.T, generator=noise)
        left, right = tokens
        sizes = [len(logits), len(lefts), len(rights)]
        share = self.ranks.share(sum(sizes))
        judged = state.fusion(
            joined([left, left.take(lefts), left.take(wrong_left)]).take(share.mine),
            joined([right, right.take(wrong_right), right.take(rights)]).take(share.mine),
        )
        return matching(*judged.split(_within(share.mine, sizes)), share=share)

    def _mlm(
        self,
        hub: Tensor,
        rows: list[Tensor],
        tokens: list[Tokens],
        state: Momentum,
        alpha: float,
        noise: torch.Generator,
    ) -> Tensor:
        assert self.words is not None
        assert isinstance(state.fusion, Fusion)
        assert isinstance(state.fusion_copy, Fusion)
        words = self.words[hub if self.reader is None else rows[self.reader]]
        shown, masked = self._masked(words, noise)
        mine, counted = self.ranks.share(len(words)).mine, masked.sum()
        words, shown, masked = words[mine], shown[mine], masked[mine]
        costs = []
        for number, side in enumerate(self.sides):
            if side.items.modality == "text":
                continue
            seen = tokens[number].take(mine)
            guesses = state.fusion.guesses(shown, number, seen)
            with torch.no_grad():
                teacher = state.fusion_copy.guesses(shown, number, seen)
            costs.append(
                masked_words(guesses, words, masked, teacher=teacher, alpha=alpha, counted=counted)
            )
        return torch.stack(costs).mean()

    def _masked(self, words: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Words with some of them hidden, and which they are."""
        chance = torch.rand(words.shape, generator=noise, device=words.device)
        masked = (words != PADDING) & (chance < self.settings.mlm_masking)
        kind = torch.rand(words.shape, generator=noise, device=words.device)
        others = torch.randint(
            FIRST, len(self.vocabulary), words.shape, generator=noise, device=words.device
        )
        hidden = torch.where(kind < _AS_MASK, torch.full_like(words, MASK), words)
        hidden = torch.where((kind >= _AS_MASK) & (kind < _AS_MASK + _AS_OTHER), others, hidden)
        return torch.where(masked, hidden, words), masked


def _within(part: slice, sizes: Sequence[int]) -> list[int]:
    """How much of each of several lists, laid end to end, is in a part of them."""
    ends = list(accumulate(sizes))
    return [
        max(0, min(part.stop, end) - max(part.start, end - size))
        for size, end in zip(sizes, ends, strict=True)
    ]


def _paired(left: Int[Tensor, " n"], right: Int[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """Which left items are paired with which right ones, here or elsewhere in the batch.

    Element i, j: whether any pair of the batch is of the items `left[i]` and `right[j]`.
    """
    same_left, same_right = left[:, None] == left, right[:, None] == right
    return (same_left.float() @ same_right.float()) > 0


def _partners(
    frozen: FrozenRows, space: str, settings: TrainSettings, progress: Progress
) -> _Partners:
    hub, leaf = frozen.hub[space], loaded(frozen.leaf).get(space)
    if leaf is None:
        return _Partners(space, "hub", frozen.items[space]["hub"], hub)
    with progress.task(f"partners in {space}", len(hub)) as advance:
        scores, rows = nearest(hub, leaf, CANDIDATES, unit=True)
        advance(len(hub))
    chances = F.softmax(scores / settings.retrieval_temperature, dim=1)
    return _Partners(
        space,
        "leaf",
        frozen.items[space]["leaf"],
        leaf,
        rows.to(hub.device),
        chances.to(hub.device),
    )
