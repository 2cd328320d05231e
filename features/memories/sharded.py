"""The shards of one extraction as one memory, without joining their files.

`NAME.I-of-N.h5`, for all I, hold what `mcr merge` would write to NAME.h5: the same rows in the same
order, the same columns. Only their fingerprint is another one, made of the shards' fingerprints, as
that of the joined file is known when all of it was read.

Axes: n items of all shards together, t parts, d dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from features.errors import UserError
from features.exchange.join import join
from features.extraction.shards import shards_beside
from features.memories.container import CheckedArray
from features.memories.memory import Memory
from features.memories.merging import check_alike, in_order, roots_of
from features.memories.sealing import as_column, seal
from features.memories.stacked_rows import StackedRows
from features.memories.strings import StringColumn

_SHARD = re.compile(r"(.+)\.\d+-of-\d+(\.[^.]+)")
_WILD = re.compile(r"[*?\[]")


def open_memory(path: str | Path) -> Memory:
    """The memory at `path`, or all shards that it stands for.

    path: a file; NAME.h5 where there are only shards NAME.I-of-N.h5; or a pattern, such as
    `NAME.*-of-8.h5`. Raises UserError if there is none, or a shard is missing, there twice, or of
    another extraction.
    """
    path = Path(path)
    found = shards_of(path)
    return ShardedMemory(found) if found else Memory(path)


def shards_of(path: Path) -> list[Path]:
    """The files that are there of the shards that `path` stands for; none if it is a file.

    Raises UserError for a pattern that no file is called by.
    """
    if path.exists():
        return []
    if _WILD.search(path.name) is None:
        return shards_beside(path)
    found = sorted(path.parent.glob(path.name))
    if not found:
        raise UserError(f"no file is called {path}: name the shards of a memory, or the memory")
    return found


def open_memories(paths: Sequence[str | Path]) -> list[Memory]:
    """The memories at `paths`; of shards of one extraction, if there are several, one memory.

    A single shard is a memory like any other. Raises UserError as `open_memory`.
    """
    memories: list[Memory] = []
    shards: dict[str, list[Memory]] = {}
    for memory in map(open_memory, paths):
        plan = memory.header.extra.get("plan") if "shard" in memory.header.extra else None
        if plan is None:
            memories.append(memory)
            continue
        others = shards.setdefault(plan, [])
        if not others:
            memories.append(memory)  # holds the place of all
        others.append(memory)
    together = {id(held[0]): _joined(held) for held in shards.values() if len(held) > 1}
    return [together.get(id(memory), memory) for memory in memories]


class ShardedMemory(Memory):
    """All shards of one extraction, open for reading as the memory that they are parts of.

    `path` is the name of that memory, which need not be there.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        """Open the shards at `paths`, in any order. Raises UserError if they are not all."""
        self._hold([Memory(path) for path in paths])

    def _hold(self, memories: Sequence[Memory]) -> None:
        for memory in memories:
            if "shard" not in memory.header.extra:
                raise UserError(
                    f"{memory.path} is not a shard of an extraction: name memories one by one, or "
                    "join them with `mcr merge`"
                )
        self.shards = tuple(in_order(memories))
        check_alike(self.shards)
        first = self.shards[0]
        if not any(map(len, self.shards)):
            raise UserError(f"the {len(self.shards)} shards of {first.path} hold no items")
        prefixes, root = roots_of(self.shards)
        self.path = _path_of(first.path)
        self.header = replace(first.header, root=root, extra={"plan": first.header.extra["plan"]})
        made = xxhash.xxh3_128(b"shards")
        for shard in self.shards:
            made.update(shard.fingerprint.encode())
        self.fingerprint = made.hexdigest()
        self.checksums = all(shard.checksums for shard in self.shards)
        self._embeddings: StackedRows = StackedRows([one._embeddings for one in self.shards])
        self._hold_columns(prefixes)
        self._local: StackedRows | None = _stacked([shard._local for shard in self.shards])
        self._local_mask: StackedRows | None = _stacked([one._local_mask for one in self.shards])

    def _hold_columns(self, prefixes: Sequence[str]) -> None:
        self.ids = StackedColumn([as_column(shard.ids) for shard in self.shards])
        items: list[StringColumn] = [as_column(shard.items) for shard in self.shards]
        if any(prefixes):
            items = [
                StringColumn.of(prefix + item for item in column)
                for prefix, column in zip(prefixes, items, strict=True)
            ]
        same = not any(prefixes) and all(shard.items is shard.ids for shard in self.shards)
        self.items = self.ids if same else StackedColumn(items)
        labels = [shard.labels for shard in self.shards if len(shard)]
        given = [one for one in labels if one is not None]
        self.labels = StackedColumn(given) if len(given) == len(labels) else None
        self.metadata = {
            name: StackedColumn([shard.metadata[name] for shard in self.shards])
            for name in self.shards[0].metadata
        }

    def __reduce__(self) -> tuple[type[Memory], Any]:
        return ShardedMemory, (tuple(shard.path for shard in self.shards),)

    @property
    def parts(self) -> tuple[Memory, ...]:
        """The shards, in order."""
        return self.shards

    def verify(self) -> None:
        """Raise UserError if the content of a shard does not match its fingerprint."""
        for shard in self.shards:
            shard.verify()

    def merged_fingerprint(self) -> str:
        """The fingerprint of the memory that `mcr merge` makes of the shards; reads all of them."""
        digest = xxhash.xxh3_128()
        for stacked in (self._embeddings, self._local, self._local_mask):
            for array in () if stacked is None else stacked.arrays:
                digest.update(np.ascontiguousarray(array.all()).data)
        return seal(digest, self.header, self.columns)


def _stacked(arrays: Sequence[CheckedArray | None]) -> StackedRows | None:
    given = [array for array in arrays if array is not None]
    return StackedRows(given) if given else None


class StackedColumn(StringColumn):
    """Columns that follow one another; their bytes are joined where all are asked for."""

    def __init__(self, columns: Sequence[StringColumn]) -> None:
        self.columns = tuple(columns)
        self._starts = np.cumsum([0, *map(len, self.columns)])

    def __getattr__(self, name: str) -> Any:
        if name not in ("utf8", "offsets"):
            raise AttributeError(name)
        whole = join(list(self.columns))
        self.utf8, self.offsets = whole.utf8, whole.offsets
        return getattr(whole, name)

    def __reduce__(self) -> tuple[type[StringColumn], Any]:
        return StackedColumn, (self.columns,)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self.columns[place][row - int(self._starts[place])]

    def __iter__(self) -> Iterator[str]:
        for column in self.columns:
            yield from column


def _joined(shards: Sequence[Memory]) -> ShardedMemory:
    return ShardedMemory([shard.path for shard in shards])


def _path_of(shard: Path) -> Path:
    """What the memory is called that a shard is of; a shard that was renamed stands for all."""
    found = _SHARD.fullmatch(shard.name)
    return shard.with_name(f"{found[1]}{found[2]}") if found else shard
