"""Where the rows of a training come from, so that what is made of them can be known again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import xxhash
from numpy.typing import NDArray
from torch import Tensor

from features.memories.memory import Memory


@dataclass(frozen=True)
class Origin:
    """Which memories frozen rows come from, and which of their rows.

    hub, leaf: by space; several leaf memories of one space are used one after another.
    rows: by space, a digest of which hub items are used, and in which order.
    keep: whether pseudo pairs are kept beside the leaf memories.
    """

    hub: Mapping[str, Memory]
    leaf: Mapping[str, Sequence[Memory]]
    rows: Mapping[str, str]
    keep: bool

    @classmethod
    def of(
        cls,
        hub: Sequence[Memory],
        rows: Sequence[NDArray[Any]],
        leaf: Mapping[str, Sequence[Memory]],
        *,
        keep: bool,
    ) -> Origin:
        """rows: which rows of each hub memory are used, in their order."""
        digests = {
            memory.space: digest(rows_of.astype("<i8").tobytes())
            for memory, rows_of in zip(hub, rows, strict=True)
        }
        return cls({memory.space: memory for memory in hub}, leaf, digests, keep)

    def narrowed(self, kept: Tensor) -> Origin:
        """Of these hub items among those that are used, in this order."""
        chosen = kept.cpu().long().numpy().astype("<i8").tobytes()
        return replace(
            self, rows={space: digest(rows.encode(), chosen) for space, rows in self.rows.items()}
        )


def digest(*parts: bytes) -> str:
    """A hash that tells apart what is divided otherwise."""
    made = xxhash.xxh3_128()
    for part in parts:
        made.update(len(part).to_bytes(8, "little"))
        made.update(part)
    return made.hexdigest()
