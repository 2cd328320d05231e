"""What a collection tells of its rows: fetched when it is asked for, and kept for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, overload

from features.errors import UserError
from features.memories.memory import MemoryHeader
from features.search.filters import LABEL, ColumnInfo, Recent, Where, as_number
from features.search.index import HitTable
from features.search.milvus.collection import Collection
from features.search.milvus.expressions import expression, literal
from features.search.milvus.fields import ID, ITEM, ROW, Column

_KEPT = 20_000  # rows
_AT_ONCE = 1000


class RemoteTable(HitTable):
    """The columns of a collection; used by several threads."""

    def __init__(
        self, collection: Collection, header: MemoryHeader, count: int, columns: Sequence[Column],
        *, has_items: bool,
    ) -> None:  # fmt: skip
        self.collection, self.count = collection, count
        self._columns = {one.name: one for one in columns if one.told}
        self._kept: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        self._lock = threading.Lock()
        ids = _Strings(self, ID)
        has_labels = any(one.name == LABEL and not one.told for one in columns)
        super().__init__(
            ids,
            _Strings(self, ITEM) if has_items else ids,
            _Strings(self, LABEL) if has_labels else None,
            header.root,
            {one.name: _Values(self, one) for one in columns if one.told},
        )
        self._fields = [ID, *([ITEM] if has_items else []), *([LABEL] if has_labels else [])]
        self._fields += [one.written or one.field for one in columns if one.told]

    def row_of(self, name: str) -> int | None:
        """See `HitTable`."""
        if not _is_unicode(name):
            return None
        found = self.collection.query(f"{ID} == {literal(name)}", [ROW], limit=1)
        return int(found[0][ROW]) if found else None

    def fetch(self, rows: Iterable[int]) -> None:
        """See `HitTable`."""
        with self._lock:
            missing = [row for row in rows if row >= 0 and row not in self._kept]
        for start in range(0, len(missing), _AT_ONCE):
            asked = missing[start : start + _AT_ONCE]
            found = self.collection.at_rows(asked, self._fields)
            with self._lock:
                self._kept.update(found)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)

    def told(self, row: int) -> Mapping[str, Any]:
        """The fields of a row. Raises UserError if it is gone."""
        for _ in range(2):
            with self._lock:
                known = self._kept.get(row)
            if known is not None:
                return known
            self.fetch([row])
        raise UserError(f"{self.collection.place} has no row {row}: build it again")


class _Strings(Sequence[str]):
    """A field of text as a column."""

    def __init__(self, table: RemoteTable, field: str) -> None:
        self.table, self.field = table, field

    def __len__(self) -> int:
        return self.table.count

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            rows = range(*row.indices(len(self)))
            self.table.fetch(rows)
            return [self[one] for one in rows]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return self._text(self.table.told(row % len(self)))

    def _text(self, kept: Mapping[str, Any]) -> str:
        return kept[self.field] or ""


class _Values(_Strings):
    """A metadata column, as it was written."""

    def __init__(self, table: RemoteTable, column: Column) -> None:
        super().__init__(table, column.written or column.field)
        self.column = column

    def _text(self, kept: Mapping[str, Any]) -> str:
        return self.column.text(kept[self.field])


class Expression(str):
    """What passes a filter, in Milvus' words; empty if nothing can. items: how many do."""

    items: int


class RemoteFilters:
    """`features.search.filters.Filters` that Milvus works on: what passes is an `Expression`."""

    def __init__(
        self, table: RemoteTable, columns: Sequence[Column], infos: Sequence[ColumnInfo]
    ) -> None:
        self.table = table
        told = {one.name for one in columns if one.told}
        # The classes are a column of this name unless the metadata has one.
        self.columns = {one.name: one for one in columns if one.told or one.name not in told}
        self.names = list(self.columns)
        self.metadata = [name for name in self.names if name in told]
        self._infos = {one.name: one for one in infos}
        self._recent = Recent()

    @cached_property
    def infos(self) -> list[ColumnInfo]:
        """What was known of the columns when the index was built."""
        return [self._infos[name] for name in self.names]

    def kind(self, name: str) -> Literal["text", "number"]:
        """See `Filters`."""
        return "number" if self.columns[name].kind in ("whole", "number") else "text"

    def prepare(self) -> None:
        """Nothing has to be read."""

    def values(self, row: int) -> dict[str, str | int | float | None]:
        """See `Filters`."""
        texts = {name: self.table.metadata[name][row] for name in self.metadata}
        return {
            name: None
            if not text
            else text
            if self.kind(name) == "text"
            else as_number(float(text))
            for name, text in texts.items()
        }

    def passing(self, where: Where) -> Expression | None:
        """See `Filters`. Raises UserError as it says, or if Milvus does not answer."""
        made: Expression | None = self._recent.get(where, self._expression) if where else None
        return made

    def _expression(self, where: Where) -> Expression:
        made = Expression(expression(self.columns, where) or "")
        made.items = self.table.collection.count(made) if made else 0
        return made

    def count(self, passing: Expression) -> int:
        """See `Filters`."""
        return passing.items


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
