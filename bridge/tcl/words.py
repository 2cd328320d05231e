"""Sentences as numbers, over a vocabulary of their own words, for masked modelling."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

PADDING, MASK, UNKNOWN = 0, 1, 2
FIRST = 3  # number of the first word
LONGEST = 32  # words; longer sentences are cut
# Every digit is a word of its own, as numbers that were never seen are made of known ones.
_WORD = re.compile(r"[^\W\d_]+|\d|[^\w\s]")


@dataclass(frozen=True)
class Vocabulary:
    """The words that have numbers: word i has `FIRST + i`."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, sentences: Sequence[str], size: int) -> Vocabulary:
        """The `size` most frequent words, of equally frequent ones the first in the alphabet."""
        counts = Counter(word for sentence in sentences for word in _split(sentence))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[:size]))

    def __len__(self) -> int:
        return FIRST + len(self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: FIRST + i for i, word in enumerate(self.words)}

    def encode(self, sentences: Sequence[str]) -> Int[Tensor, "n w"]:
        """The words' numbers, `PADDING` after the last one."""
        coded = torch.full((len(sentences), LONGEST), PADDING, dtype=torch.long)
        for row, sentence in enumerate(sentences):
            found = [self._numbers.get(word, UNKNOWN) for word in _split(sentence)[:LONGEST]]
            coded[row, : len(found)] = torch.tensor(found, dtype=torch.long)
        used = int((coded != PADDING).sum(dim=1).max()) if len(coded) else 0
        return coded[:, : max(1, used)]


def _split(sentence: str) -> list[str]:
    return _WORD.findall(sentence.lower())
