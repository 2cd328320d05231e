"""The fusion encoder: does this item belong to that one, judged by their parts.

A small transformer in the manner of TCL's (Yang et al., CVPR 2022, section on ITM and MLM): the
tokens of one side attend to each other and, in every layer, to those of the other side. Tokens
are linear maps of frozen embeddings, the whole item's first and its parts' after it. The same
layers guess masked words from the tokens of a side.

Axes: n pairs, t tokens of the left side, s of the right one, w words, v of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bridge.tcl.words import LONGEST, PADDING, Vocabulary
from features.space import Modality, modality_named


@dataclass(frozen=True)
class Side:
    """One side of the pairs: a modality in a space, with so many parts at most."""

    space: str
    modality: Modality
    dimension: int
    parts: int


@dataclass(frozen=True)
class FusionSpec:
    """What to build before weights are loaded into it; it travels as JSON.

    temperature: that cosines were trained at; over it, they add up with the logits of a match.
    words: the vocabulary, empty where no words are guessed.
    """

    sides: tuple[Side, Side]
    width: int
    layers: int
    heads: int
    words: tuple[str, ...] = ()
    temperature: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> FusionSpec:
        """Raises KeyError, TypeError or ValueError for what `as_dict` does not write."""
        left, right = (
            Side(**{**side, "modality": modality_named(side["modality"])})
            for side in described["sides"]
        )
        spec = cls(**{**described, "sides": (left, right), "words": tuple(described["words"])})
        if min(spec.width, spec.layers, spec.heads) < 1 or spec.width % spec.heads:
            raise ValueError(f"a fusion encoder of {spec.width} x {spec.layers} x {spec.heads}")
        return spec


@dataclass(frozen=True)
class Tokens:
    """Frozen embeddings of items of one side: the wholes', then the parts'.

    rows: (n, t, d). mask: (n, t), which there are.
    """

    rows: Float[Tensor, "n t d"]
    mask: Bool[Tensor, "n t"]

    @classmethod
    def of(cls, whole: Tensor, parts: Tensor, mask: Tensor) -> Tokens:
        """Of unit embeddings (n, d) and those of their parts (n, t, d)."""
        there = torch.ones(len(mask), 1, dtype=torch.bool, device=mask.device)
        return cls(torch.cat([whole[:, None], parts], dim=1), torch.cat([there, mask], dim=1))

    def to(self, device: torch.device) -> Tokens:
        """The same on `device`."""
        return Tokens(self.rows.to(device), self.mask.to(device))

    def take(self, rows: Int[Tensor, " m"] | slice) -> Tokens:
        """Some of the items."""
        return Tokens(self.rows[rows], self.mask[rows])


def joined(several: Sequence[Tokens]) -> Tokens:
    """Their items, one after the other."""
    return Tokens(
        torch.cat([one.rows for one in several]), torch.cat([one.mask for one in several])
    )


class Fusion(nn.Module):
    """Logits of a match, and of masked words."""

    def __init__(self, spec: FusionSpec, generator: torch.Generator) -> None:
        """Initial weights come from `generator`."""
        super().__init__()
        self.spec = spec
        width = spec.width
        self.inputs = nn.ModuleList(_SideInput(side, width) for side in spec.sides)
        layer = nn.TransformerDecoderLayer(
            width, spec.heads, dim_feedforward=2 * width, dropout=0.0, activation="gelu",
            batch_first=True, norm_first=True, device="meta",
        )  # fmt: skip
        norm = nn.LayerNorm(width, device="meta")
        self.layers = nn.TransformerDecoder(layer, spec.layers, norm=norm)
        self.match = nn.Linear(width, 1, device="meta")
        if spec.words:
            size = len(Vocabulary(spec.words))
            self.word = _table(size, width)
            self.word_place = _table(LONGEST, width)
            self.guess = nn.Linear(width, size, device="meta")
        _initialise(self, generator)

    def forward(self, left: Tokens, right: Tokens) -> Float[Tensor, " n"]:
        """Logits of a match."""
        mine, other = (
            side(tokens) for side, tokens in zip(self.inputs, (left, right), strict=True)
        )
        fused = self._fused(mine, left.mask, other, right.mask)
        logits: Tensor = self.match(fused[:, 0]).squeeze(-1)
        return logits

    def guesses(
        self, words: Int[Tensor, "n w"], side: int, tokens: Tokens
    ) -> Float[Tensor, "n w v"]:
        """Logits of every word, given the others and the tokens of the other item, of `side`."""
        place = torch.arange(words.shape[1], device=words.device)
        mine = self.word(words) + self.word_place(place)
        fused = self._fused(mine, words != PADDING, self.inputs[side](tokens), tokens.mask)
        logits: Tensor = self.guess(fused)
        return logits

    def _fused(self, mine: Tensor, mask: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
        fused: Tensor = self.layers(
            mine, other, tgt_key_padding_mask=~mask, memory_key_padding_mask=~other_mask
        )
        return fused


class _SideInput(nn.Module):
    def __init__(self, side: Side, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(side.dimension, width, device="meta")
        self.norm = nn.LayerNorm(width, device="meta")
        self.place = _table(1 + side.parts, width)

    def forward(self, tokens: Tokens) -> Float[Tensor, "n t width"]:
        place = torch.arange(tokens.rows.shape[1], device=tokens.rows.device)
        embedded: Tensor = self.norm(self.map(tokens.rows)) + self.place(place)
        return embedded


def _table(count: int, width: int) -> nn.Embedding:
    """An embedding without weights yet; on the meta device it would import sympy and triton."""
    return nn.Embedding(count, width, _weight=torch.empty(count, width))


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Weights for parameters that have none; torch would draw from the global generator."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            values = torch.empty(parameter.shape)
            if isinstance(part, nn.LayerNorm) or parameter.ndim == 1:
                values.fill_(1.0 if isinstance(part, nn.LayerNorm) and name == "weight" else 0.0)
            elif isinstance(part, nn.Embedding):
                values.normal_(std=0.02, generator=generator)
            else:
                bound = parameter.shape[1] ** -0.5
                values.uniform_(-bound, bound, generator=generator)
            setattr(part, name, nn.Parameter(values))
