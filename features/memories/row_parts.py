"""Parts of memories that can be worked on elsewhere: they travel as paths, and are read there.

Axes: b rows of a part, d dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.memories.memory import Memory

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

_OPEN = 64  # memories that a process keeps open


@dataclass(frozen=True)
class RowsPart:
    """Consecutive rows of files that follow one another.

    files: path and fingerprint of each. first: the place of the first row among all rows. start:
    its place in the first file. count: of rows.
    """

    files: tuple[tuple[Path, str], ...]
    first: int
    start: int
    count: int

    @property
    def rows(self) -> slice:
        """Which rows of the files together."""
        return slice(self.start, self.start + self.count)

    def memories(self) -> list[Memory]:
        """The files, open. Raises UserError if one is gone, or is another memory now."""
        return [_opened(path, fingerprint) for path, fingerprint in self.files]

    def stored(self) -> Float[NDArray[Any], "b d"]:
        """The rows as they are stored; of one file without a copy."""
        found, start, stop = [], self.start, self.start + self.count
        for memory in self.memories():
            if stop > 0 and start < len(memory):
                found.append(memory.read(max(start, 0), min(stop, len(memory))))
            start, stop = start - len(memory), stop - len(memory)
        return found[0] if len(found) == 1 else np.concatenate(found)


def row_parts(memories: Sequence[Memory], rows: int) -> list[RowsPart]:
    """All rows, `rows` to a part, whichever files they are in: the same parts of the same rows."""
    files = _Files(memories)
    total = int(files.starts[-1])
    return [files.part(start, min(start + rows, total)) for start in range(0, total, rows)]


def file_parts(memories: Sequence[Memory]) -> list[RowsPart]:
    """A part for every file that has rows."""
    files = _Files(memories)
    return [files.part(start, stop) for start, stop in pairwise(files.starts.tolist())]


class _Files:
    """The files of memories, without those that have no rows, and where the rows of each begin."""

    def __init__(self, memories: Sequence[Memory]) -> None:
        files = [file for memory in memories for file in memory.parts if len(file)]
        self.named = [(file.path.resolve(), file.fingerprint) for file in files]
        self.starts = np.cumsum([0, *map(len, files)], dtype=np.int64)

    def part(self, start: int, stop: int) -> RowsPart:
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        last = int(np.searchsorted(self.starts, stop, side="left"))
        before = int(self.starts[first])
        return RowsPart(tuple(self.named[first:last]), start, start - before, stop - start)


@lru_cache(maxsize=_OPEN)
def _opened(path: Path, fingerprint: str) -> Memory:
    memory = Memory(path)
    if memory.fingerprint != fingerprint:
        raise UserError(
            f"{path} was replaced by another memory after it was opened: run the command again"
        )
    return memory
