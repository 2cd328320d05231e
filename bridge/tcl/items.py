"""What memories know of the items behind rows: their parts, and their sentences.

Parts are read from the memories as they are wanted: those of a large memory fill hundreds of
gigabytes.

Axes: n items, t parts, d dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from features.errors import UserError
from features.memories.memory import Memory
from features.space import Modality

MAKE_PARTS = "make it again with `mcr extract --local`"


@dataclass(frozen=True)
class Items:
    """Items of one or several memories of a space and modality, by row of a table.

    rows: which rows of the memories, laid end to end, the table has; None: all.
    """

    memories: tuple[Memory, ...]
    rows: NDArray[Any] | None = None

    @property
    def modality(self) -> Modality:
        """What the items are."""
        return self.memories[0].modality

    @property
    def length(self) -> int:
        """Parts an item has at most; 0 if any of the memories has none."""
        lengths = [memory.header.local_length for memory in self.memories]
        return max(lengths) if all(lengths) else 0

    def require_parts(self, wanted_by: str) -> None:
        """Raise UserError, which names the memory, unless all items have parts."""
        for memory in self.memories:
            if not memory.header.local_length:
                raise UserError(
                    f"{wanted_by} needs the parts of items and {memory.path} has none: "
                    f"{MAKE_PARTS}, or set its weight to 0"
                )

    def parts(
        self, rows: Int[Tensor, " n"], like: Float[Tensor, "m d"]
    ) -> tuple[Float[Tensor, "n t d"], Bool[Tensor, "n t"]]:
        """Frozen unit embeddings of the parts of some items, and which there are.

        like: a table on the device and of the type that they are wanted in.
        """
        which, within = self._places(rows)
        local = torch.zeros(len(rows), self.length, self.memories[0].dimension)
        mask = torch.zeros(len(rows), self.length, dtype=torch.bool)
        for number, memory in enumerate(self.memories):
            mine = np.flatnonzero(which == number)
            if len(mine):
                found, there = memory.local_tensors(within[mine])
                local[mine, : found.shape[1]] = found
                mask[mine, : there.shape[1]] = there
        return local.to(like), mask.to(like.device)

    @property
    def sentences(self) -> list[str]:
        """What was embedded, of every row."""
        every = [text for memory in self.memories for text in memory.items]
        return every if self.rows is None else [every[row] for row in self.rows.tolist()]

    def _places(self, rows: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        """For each row, which memory it is in, and where."""
        wanted = rows.cpu().numpy()
        joined = wanted if self.rows is None else self.rows[wanted]
        starts = np.cumsum([0, *(len(memory) for memory in self.memories)])
        which = np.searchsorted(starts, joined, side="right") - 1
        return which, joined - starts[which]


ItemsOf = Mapping[str, Mapping[str, Items]]  # space -> role ->


def items_of(
    hub: Sequence[Memory],
    hub_rows: Sequence[NDArray[Any]],
    leaf: Mapping[str, Sequence[Memory]],
    kept: NDArray[Any],
) -> ItemsOf:
    """Items of the hub tables, of which some rows are kept, and of the leaf tables."""
    return {
        memory.space: {
            "hub": Items((memory,), rows[kept]),
            **({"leaf": Items(tuple(leaf[memory.space]))} if leaf[memory.space] else {}),
        }
        for memory, rows in zip(hub, hub_rows, strict=True)
    }
