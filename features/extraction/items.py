"""Items to embed, and the source that they come from.

Millions of them are held as columns of text, a few bytes more than their names and sentences
take, and made into objects one at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import xxhash

from features.file_states import file_state
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to embed; `value` is a sentence, or a path relative to the source's root.

    metadata: what the source's further `columns` say of it.
    """

    id: str
    value: str
    label: str | None = None
    metadata: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Items(Sequence[Item]):
    """n items as columns of n strings.

    values: None where they are the ids. labels: None where there are none.
    """

    ids: StringColumn
    values: StringColumn | None = None
    labels: StringColumn | None = None
    metadata: tuple[StringColumn, ...] = ()

    @classmethod
    def of(cls, items: Iterable[Item]) -> Items:
        """Items as columns; labels are kept if all have one."""
        if isinstance(items, Items):
            return items
        found = list(items)
        labels = [item.label for item in found if item.label is not None]
        renamed = any(item.id != item.value for item in found)
        return cls(
            StringColumn.of(item.id for item in found),
            StringColumn.of(item.value for item in found) if renamed else None,
            StringColumn.of(labels) if found and len(labels) == len(found) else None,
            tuple(map(StringColumn.of, zip(*(item.metadata for item in found), strict=True))),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, row: int) -> Item: ...
    @overload
    def __getitem__(self, row: slice) -> Items: ...
    def __getitem__(self, row: int | slice) -> Item | Items:
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if step == 1:
                return self._each(lambda column: column.part(start, stop))
            return self.take(np.arange(start, stop, step))
        name = self.ids[row]
        return Item(
            name,
            name if self.values is None else self.values[row],
            None if self.labels is None else self.labels[row],
            tuple(column[row] for column in self.metadata),
        )

    def __iter__(self) -> Iterator[Item]:
        for name, value, label, metadata in zip(
            self.ids,
            self.ids if self.values is None else self.values,
            repeat(None, len(self)) if self.labels is None else self.labels,
            zip(*self.metadata, strict=True) if self.metadata else repeat((), len(self)),
            strict=True,
        ):
            yield Item(name, value, label, metadata)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(
            one == another for one, another in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def take(self, rows: NDArray[np.intp]) -> Items:
        """The items at `rows`."""
        return self._each(lambda column: column.take(rows))

    def digest(self) -> str:
        """A hash of all that is known of all items."""
        digest = xxhash.xxh3_128()
        for name in ("ids", "values", "labels"):
            column = getattr(self, name)
            if column is not None:
                digest.update(name.encode())
                column.add_to(digest)
        for column in self.metadata:
            column.add_to(digest)
        return str(digest.hexdigest())

    def _each(self, change: Callable[[StringColumn], StringColumn]) -> Items:
        return Items(
            change(self.ids),
            None if self.values is None else change(self.values),
            None if self.labels is None else change(self.labels),
            tuple(change(column) for column in self.metadata),
        )


@dataclass(frozen=True)
class Source:
    """Items in their order, each id once.

    root: folder of the items' paths, None where the items are sentences.
    notes: what was left out or merged, one sentence each, to be shown to the user.
    columns: names of the items' metadata.
    """

    items: Sequence[Item]
    root: Path | None
    notes: Sequence[str] = field(default=())
    columns: Sequence[str] = field(default=())

    def load_argument(self, item: Item) -> str | Path:
        """What an encoder's input function takes for `item`."""
        return item.value if self.root is None else self.root / item.value

    def file_states(self) -> NDArray[np.int64]:
        """Size and time of the last change, in nanoseconds, of every file (n, 2).

        Sentences have none: (0, 2).
        """
        if self.root is None:
            return np.zeros((0, 2), np.int64)
        root = os.fspath(self.root)  # as text: Path would take as long as the disk
        states = np.empty((len(self.items), 2), np.int64)
        for row, item in enumerate(self.items):
            states[row] = file_state(os.path.join(root, item.value))  # noqa: PTH118
        return states
