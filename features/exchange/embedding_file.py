"""What every foreign file of embeddings looks like to `importing`: rows in blocks, and columns.

Axes: n rows, d dimensions, b rows of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from features.errors import UserError
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES = 2 << 20  # stays in a core's cache between reading, checking and writing


class TextColumns(Protocol):
    """Named columns of text beside the embeddings."""

    @property
    def path(self) -> Path:
        """The file or folder they are in, for messages."""

    @property
    def names(self) -> Sequence[str]:
        """What the columns are called."""

    def read(self, name: str) -> StringColumn:
        """A column as text, empty where a cell has nothing."""


@dataclass(frozen=True)
class EmbeddingFile:
    """Embeddings in a file or folder of another tool.

    rows, dimension: n and d. dtype: as stored.
    blocks: reads the rows from the beginning, as arrays (b, d) that follow one another.
    columns: what the file itself says about its rows. notes: what the user should know.
    absent: reads which rows have no vector; `blocks` has NaN there.
    """

    path: Path
    rows: int
    dimension: int
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[NDArray[Any]]]
    columns: TextColumns | None = None
    notes: Sequence[str] = field(default_factory=tuple)
    absent: Callable[[], Iterable[int]] = tuple


def require_embeddings(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Raise UserError unless an array could hold embeddings: (n, d) of floating point numbers."""
    if len(shape) != 2 or min(shape) < 1:
        raise UserError(
            f"{path} holds an array of shape {tuple(shape)}: embeddings are rows (n, d), at least "
            "one of each"
        )
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise UserError(
            f"{path} holds numbers of type {dtype}: embeddings are float16, float32 or float64"
        )


def require_bytes(path: Path, shape: Sequence[int], dtype: np.dtype[Any], found: int) -> None:
    """Raise UserError unless an array's `found` bytes are as many as its rows (n, d) need.

    Without this, a file of a few bytes could ask for any amount of memory.
    """
    expected = math.prod(shape) * dtype.itemsize
    if found < expected:
        raise UserError(
            f"{path} has {found} bytes of rows but its {shape[0]} rows of {shape[1]} {dtype} need "
            f"{expected}: it was not written or copied completely, make it again"
        )


def block_rows(dimension: int, dtype: np.dtype[Any]) -> int:
    """How many rows make a block."""
    return max(1, BLOCK_BYTES // (dimension * dtype.itemsize))


def raw_blocks(
    file: BinaryIO, path: Path, rows: int, dimension: int, dtype: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """Rows that lie one after another in an open file, from where it stands.

    Plain reads: pages of a memory map would count as this process's memory.
    Raises UserError if the file ends before the last row.
    """
    step = block_rows(dimension, dtype)
    for start in range(0, rows, step):
        block = np.empty((min(step, rows - start), dimension), dtype)
        view = block.reshape(-1).view(np.uint8).data
        while view:
            count = file.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise UserError(
                    f"{path} ends after {start} of its {rows} rows: it was not written or copied "
                    "completely, make it again"
                )
            view = view[count:]
        yield block
