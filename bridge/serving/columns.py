"""Filters on the metadata of a collection's items.

A column of text is kept as codes, four bytes a row, made at its first use; a label is the column
`label` unless there is another of that name.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.serving.models import ColumnInfo, Range, ValueCount, Wanted
from bridge.serving.refusal import UNPROCESSABLE, Refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABEL = "label"
_VALUES_TOLD = 50
_MASKS = 64  # filters whose rows are kept


@dataclass(frozen=True)
class TextColumn:
    """codes: (n,) places in `values`, which are in the order of how often they occur."""

    codes: NDArray[np.int32]
    values: list[str]
    counts: list[int]

    @classmethod
    def of(cls, strings: Sequence[str]) -> TextColumn:
        """Text as codes."""
        counted = Counter(strings).most_common()
        places = {value: place for place, (value, _) in enumerate(counted)}
        codes = np.fromiter((places[one] for one in strings), np.int32, len(strings))
        return cls(codes, [value for value, _ in counted], [count for _, count in counted])

    def passing(self, name: str, wanted: Wanted) -> NDArray[np.bool_]:
        """The rows with one of the values."""
        if isinstance(wanted, Range):
            raise Refusal(
                UNPROCESSABLE, f"the column '{name}' holds text, not numbers: give a list of values"
            )
        asked = {str(value) for value in wanted}
        codes = [code for code, value in enumerate(self.values) if value in asked]
        return np.isin(self.codes, codes)

    def info(self, name: str) -> ColumnInfo:
        """For `/v1/info`."""
        told = zip(self.values[:_VALUES_TOLD], self.counts, strict=False)
        return ColumnInfo(
            name, "text", [ValueCount(*one) for one in told], distinct=len(self.values)
        )


@dataclass(frozen=True)
class NumberColumn:
    """numbers: (n,), NaN where an item has none."""

    numbers: NDArray[np.floating[Any] | np.integer[Any]]

    def passing(self, name: str, wanted: Wanted) -> NDArray[np.bool_]:
        """The rows with one of the numbers, or within the range."""
        if isinstance(wanted, Range):
            passes = ~np.isnan(self.numbers)
            if wanted.min is not None:
                passes &= self.numbers >= wanted.min
            if wanted.max is not None:
                passes &= self.numbers <= wanted.max
            return np.asarray(passes)
        strings = [value for value in wanted if isinstance(value, str)]
        if strings:
            raise Refusal(
                UNPROCESSABLE, f"the column '{name}' holds numbers, '{strings[0][:40]}' is text"
            )
        return np.isin(self.numbers, [float(value) for value in wanted])

    def info(self, name: str) -> ColumnInfo:
        """For `/v1/info`."""
        known = self.numbers[~np.isnan(self.numbers)]
        bounds = (float(known.min()), float(known.max())) if len(known) else (None, None)
        return ColumnInfo(
            name, "number", distinct=len(np.unique(known)), minimum=bounds[0], maximum=bounds[1]
        )


class Filters:
    """The columns of a collection, and which rows pass a filter."""

    def __init__(self, count: int, columns: Mapping[str, Any], labels: Sequence[str] | None):
        """columns: name -> n strings, or an array of n numbers."""
        self.count = count
        self.stored = {LABEL: labels, **columns} if labels is not None else dict(columns)
        self._columns: dict[str, TextColumn | NumberColumn] = {}
        self._masks: OrderedDict[str, NDArray[np.bool_]] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self.stored

    def column(self, name: str) -> TextColumn | NumberColumn:
        """A column, made ready."""
        with self._lock:
            if name not in self._columns:
                stored = self.stored[name]
                numbers = isinstance(stored, np.ndarray) and stored.dtype.kind in "fiu"
                self._columns[name] = (
                    NumberColumn(stored) if numbers else TextColumn.of(list(stored))
                )
            return self._columns[name]

    def passing(self, where: Mapping[str, Wanted]) -> NDArray[np.bool_] | None:
        """Which of the n rows pass, or None if all do; an item without a column does not.

        Raises Refusal for values that are not of the column's kind.
        """
        if not where:
            return None
        key = repr(sorted(where.items()))
        if key not in self._masks:
            passes = np.ones(self.count, dtype=bool)
            for name, wanted in where.items():
                passes &= self.column(name).passing(name, wanted) if name in self else False
            self._masks[key] = passes
        self._masks.move_to_end(key)
        while len(self._masks) > _MASKS:
            self._masks.popitem(last=False)
        return self._masks[key]

    def infos(self) -> list[ColumnInfo]:
        """For `/v1/info`."""
        return [self.column(name).info(name) for name in self.stored]
