"""The rows of one element of a PLY file: numbers, and lists whose lengths may differ.

A header can claim any number of rows: every reader compares it with the bytes that are there
before it allocates anything.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from features.clouds.text import parse_rows, typed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STRUCT = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}


@dataclass(frozen=True)
class Property:
    """One number of each row; `type` is numpy's code without the byte order."""

    name: str
    type: str


@dataclass(frozen=True)
class List(Property):
    """A list of numbers in each row, after its length."""

    length_type: str


@dataclass(frozen=True)
class Rows:
    """An element's columns (n,), and for each list its rows grouped by length, (m, length)."""

    columns: dict[str, NDArray[Any]]
    lists: dict[str, list[NDArray[Any]]]


# content, where the element starts, rows, properties -> the rows, where the next one starts
Reader = Callable[[bytes, int, int, Sequence[Property]], tuple[Rows, int]]


def binary_rows(order: str) -> Reader:
    """The reader of rows in numpy's byte order `order`, `<` or `>`."""

    def read(
        content: bytes, start: int, count: int, properties: Sequence[Property]
    ) -> tuple[Rows, int]:
        lengths = _first_lengths(content, start, properties, order) if count else {}
        fields: list[Any] = []
        for one in properties:
            if isinstance(one, List):
                length = lengths.get(one.name, 0)
                fields.append((f"length of {one.name}", order + one.length_type))
                fields.append((one.name, order + one.type, (length,)))
            else:
                fields.append((one.name, order + one.type))
        row = np.dtype(fields)
        least = row.itemsize - sum(row[name].itemsize for name in lengths)
        if count and not (least and count * least <= len(content) - start):
            raise ValueError(f"its header claims {count} rows, more than the file holds")
        if count * row.itemsize <= len(content) - start:
            table = np.frombuffer(content, row, count, start) if count else np.empty(0, row)
            if all((table[f"length of {name}"] == n).all() for name, n in lengths.items()):
                columns = {p.name: table[p.name] for p in properties if not isinstance(p, List)}
                lists = {name: [table[name]] for name in lengths}
                return Rows(columns, lists), start + count * row.itemsize
        if not lengths:
            raise ValueError(f"it ends before the {count} rows that its header claims")
        return _uneven_rows(content, start, count, properties, order)

    return read


def _first_lengths(
    content: bytes, start: int, properties: Sequence[Property], order: str
) -> dict[str, int]:
    """How long the lists of the first row are; mostly those of the other rows are as long."""
    lengths = {}
    for one in properties:
        if isinstance(one, List):
            (length,) = struct.unpack_from(order + _STRUCT[one.length_type], content, start)
            start += int(one.length_type[1]) + length * int(one.type[1])
            if length < 0 or start > len(content):
                raise ValueError(f"it claims a list of {length} numbers, more than it holds")
            lengths[one.name] = length
        else:
            start += int(one.type[1])
    return lengths


def _uneven_rows(
    content: bytes, start: int, count: int, properties: Sequence[Property], order: str
) -> tuple[Rows, int]:
    position = start

    def take(code: str, number: int) -> tuple[Any, ...]:
        nonlocal position
        size = number * int(code[1])
        if number < 0 or size > len(content) - position:
            raise ValueError(f"it ends before the {count} rows that its header claims")
        taken = struct.unpack_from(f"{order}{number}{_STRUCT[code]}", content, position)
        position += size
        return taken

    rows = _collect(count, properties, take)
    return rows, position


def ascii_rows(
    content: bytes, start: int, count: int, properties: Sequence[Property]
) -> tuple[Rows, int]:
    """Rows as lines of numbers, one line each."""
    if count > len(content) - start:
        raise ValueError(f"its header claims {count} rows, more than the file holds")
    stream = BytesIO(content)
    stream.seek(start)
    if any(isinstance(one, List) for one in properties):
        words = chain.from_iterable(line.split() for line in islice(stream, count))
        rows = _collect(count, properties, _taker(words))
        return rows, stream.tell()
    table = parse_rows(islice(stream, count)) if count else np.empty((0, len(properties)))
    if table.shape != (count, len(properties)):
        raise ValueError(
            f"its header claims {count} rows of {len(properties)} numbers, it has {table.shape}"
        )
    columns = {one.name: typed(table[:, i], one.type) for i, one in enumerate(properties)}
    return Rows(columns, {}), stream.tell()


def _taker(words: Iterator[bytes]) -> Callable[[str, int], tuple[Any, ...]]:
    def take(code: str, number: int) -> tuple[Any, ...]:
        taken = tuple(map(float if code[0] == "f" else int, islice(words, max(number, 0))))
        if len(taken) != number:
            raise ValueError("it ends before the rows that its header claims")
        return taken

    return take


def _collect(
    count: int, properties: Sequence[Property], take: Callable[[str, int], tuple[Any, ...]]
) -> Rows:
    """Rows one by one; `take(type, number)` gives the next numbers."""
    columns: dict[str, list[Any]] = {p.name: [] for p in properties if not isinstance(p, List)}
    lists: dict[str, dict[int, list[tuple[Any, ...]]]] = {
        p.name: defaultdict(list) for p in properties if isinstance(p, List)
    }
    for _ in range(count):
        for one in properties:
            if isinstance(one, List):
                (length,) = take(one.length_type, 1)
                lists[one.name][length].append(take(one.type, length))
            else:
                columns[one.name] += take(one.type, 1)
    types = {one.name: one.type for one in properties}
    return Rows(
        {name: np.array(values, types[name]) for name, values in columns.items()},
        {
            name: [np.array(rows, types[name]) for _, rows in sorted(groups.items())]
            for name, groups in lists.items()
        },
    )
