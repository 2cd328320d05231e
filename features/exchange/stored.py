"""What all writers of `exporting` take: a memory's rows in blocks, its columns, its header.

Axes: n items, d dimensions, b rows of a block.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from features.exchange.embedding_file import block_rows
from features.memories.memory import Memory
from features.memories.sealing import as_column, named_columns
from features.memories.strings import StringColumn
from features.progress import Advance

if TYPE_CHECKING:
    from numpy.typing import NDArray


# What the formats call the embeddings and their own columns.
_RESERVED = {
    "id", "ids", "item", "items", "label", "labels", "caption", "image_path", "embedding",
    "embeddings", "train", "test", "neighbors", "distances", "image",
    "projection_x", "projection_y",
}  # fmt: skip


def has_place(column: str) -> bool:
    """Whether other tools' files can hold a further column of this name."""
    return column not in _RESERVED and "/" not in column  # HDF5 would make it a group


@dataclass(frozen=True)
class Stored:
    """Rows of a memory on their way into another tool's file.

    dtype: as the file stores them.
    """

    memory: Memory
    dtype: np.dtype[Any]
    advance: Advance

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self.memory), self.memory.dimension

    @property
    def columns(self) -> dict[str, StringColumn]:
        """ids, items and labels where the memory has them, and the further columns.

        Further columns without a place (`has_place`) are left out.
        """
        named = named_columns(self.memory.columns)
        own = {name: as_column(column) for name, column in named if column is not None}
        return {**own, **self.metadata}

    @property
    def metadata(self) -> dict[str, StringColumn]:
        """The further columns for which there is a place."""
        return {
            name: as_column(column)
            for name, column in self.memory.metadata.items()
            if has_place(name)
        }

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[Any]]:
        """The rows from `start` to `stop` as contiguous arrays (b, d)."""
        stop = len(self.memory) if stop is None else stop
        step = block_rows(self.memory.dimension, self.dtype)
        for first in range(start, stop, step):
            rows = self.memory.read(first, min(first + step, stop))
            yield np.ascontiguousarray(rows, dtype=self.dtype)
            self.advance(len(rows))

    @property
    def about(self) -> dict[str, str]:
        """What the rows are, for formats that have a place for it."""
        header = self.memory.header
        return {
            "space": header.space,
            "modality": header.modality,
            "encoder": json.dumps(dict(header.encoder), sort_keys=True),
            "fingerprint": self.memory.fingerprint,
        }
