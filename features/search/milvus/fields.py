"""The fields of a collection: what is kept of every row, and with which types.

`row` is the primary key, so that writing a row twice is writing it once. A metadata column is a
field of its own, named `column_NAME` where Milvus takes the name: numbers as int64 or double,
columns of true and false as booleans, all others as text. An empty value is null. Where a number is
not written as this module writes it (`2.50`), the text is kept beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from features.errors import UserError
from features.memories.memory import Memory
from features.search.filters import LABEL, NumberColumn, TableFilters

ROW, VECTOR, ID, ITEM = "row", "vector", "id", "item"
MOST_BYTES = 65_535  # of a text in Milvus
EXACT = 1 << 53  # whole numbers up to here are the same as floating-point numbers
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,100}")
_FLAGS = [("false", "true"), ("False", "True"), ("FALSE", "TRUE")]


@dataclass(frozen=True)
class Column:
    """A column that can be filtered on, and the field that it is in.

    written: the field of the numbers as they are written, if it is needed. spelled: how false and
    true are. told: whether it is among an item's metadata; the classes are not.
    """

    name: str
    field: str
    kind: Literal["text", "whole", "number", "flag"]
    written: str | None = None
    spelled: tuple[str, str] | None = None
    told: bool = True

    def value(self, text: str) -> Any:
        """What is kept of a value; None for an empty one."""
        if not text or self.kind == "text":
            return text or None
        if self.spelled is not None:
            return text == self.spelled[1]
        return int(text) if self.kind == "whole" else float(text) + 0.0  # -0.0 is 0.0

    def text(self, kept: Any) -> str:
        """A value as it was written, of what is kept of it."""
        if kept is None:
            return ""
        if self.spelled is not None:
            return self.spelled[bool(kept)]
        return kept if isinstance(kept, str) else _as_written(kept)


def columns_of(memory: Memory, filters: TableFilters) -> list[Column]:
    """The columns of a memory. filters: on the same rows."""
    found = []
    for place, (name, strings) in enumerate(memory.metadata.items()):
        # The number cannot be another column's name, which begins with a letter.
        field = f"column_{name if _PLAIN.fullmatch(name) else place}"
        if isinstance(filters.column(name), NumberColumn):
            found.append(_of_numbers(name, field, strings))
        else:
            spelled = next((one for one in _FLAGS if _only(strings, one)), None)
            found.append(Column(name, field, "flag" if spelled else "text", spelled=spelled))
    if memory.labels is not None:
        found.append(Column(LABEL, LABEL, "text", told=False))
    return found


def _only(strings: Sequence[str], values: tuple[str, str]) -> bool:
    some = False
    for one in strings:
        if one and one not in values:
            return False
        some = some or bool(one)
    return some


def _of_numbers(name: str, field: str, strings: Sequence[str]) -> Column:
    values = {one for one in strings if one}
    whole = all(re.fullmatch(r"-?\d+", one) and abs(int(one)) <= EXACT for one in values)
    same = all(_as_written(int(one) if whole else float(one)) == one for one in values)
    kind: Literal["whole", "number"] = "whole" if whole else "number"
    return Column(name, field, kind, written=None if same else f"written_{field}")


def _as_written(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < EXACT else repr(number)


def make_schema(client: Any, memory: Memory, columns: Iterable[Column]) -> Any:
    """The `pymilvus.CollectionSchema` of a memory's index."""
    from pymilvus import DataType

    types = {"text": DataType.VARCHAR, "whole": DataType.INT64, "number": DataType.DOUBLE,
             "flag": DataType.BOOL}  # fmt: skip
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(ROW, DataType.INT64, is_primary=True)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=memory.dimension)
    schema.add_field(ID, DataType.VARCHAR, max_length=MOST_BYTES)
    if memory.items is not memory.ids:
        schema.add_field(ITEM, DataType.VARCHAR, max_length=MOST_BYTES)
    for one in columns:
        width = {"max_length": MOST_BYTES} if one.kind == "text" else {}
        schema.add_field(one.field, types[one.kind], nullable=True, **width)
        if one.written is not None:
            schema.add_field(one.written, DataType.VARCHAR, max_length=64, nullable=True)
    return schema


def told_of(
    memory: Memory, columns: Sequence[Column], start: int, stop: int
) -> list[dict[str, Any]]:
    """What is kept of the rows from `start` to `stop`, but for their vectors.

    Raises UserError for a text that Milvus does not take.
    """
    texts = {ID: memory.ids[start:stop]}
    if memory.items is not memory.ids:
        texts[ITEM] = memory.items[start:stop]
    kept: list[dict[str, Any]] = [{ROW: start + place} for place in range(stop - start)]
    for name, column in texts.items():
        for place, text in enumerate(column):
            kept[place][name] = _checked(text, memory, start + place)
    for one in columns:
        source = memory.metadata[one.name] if one.told else memory.labels
        assert source is not None
        for place, text in enumerate(source[start:stop]):
            value = one.value(text)
            checked = _checked(value, memory, start + place) if one.kind == "text" else value
            kept[place][one.field] = checked
            if one.written is not None:
                kept[place][one.written] = text or None
    return kept


def _checked(text: Any, memory: Memory, row: int) -> Any:
    if text is None:
        return None
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UserError(
            f"item {row} of {memory.path} has a text that is not Unicode ({text[:80]!r}), which "
            "Milvus does not take: rename it, or index into a .faiss file"
        ) from None
    if size > MOST_BYTES:
        raise UserError(
            f"item {row} of {memory.path} has a text of {size} bytes, Milvus takes {MOST_BYTES}: "
            "shorten it, or index into a .faiss file"
        )
    return text
