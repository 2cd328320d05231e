"""Filters on the metadata of a collection's items.

A column whose values are all numbers, as they are usually written, is one of numbers; any other is
text, also numbers with zeros before them. Both are made ready at their first use, four or eight
bytes a row. The items' classes are the column `label`, of text, unless another has that name.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.serving.models import ColumnInfo, ValueCount
from bridge.serving.refusal import UNPROCESSABLE, Refusal
from bridge.serving.requests import Range, Wanted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.search.index import HitTable

LABEL = "label"
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_VALUES_TOLD = 50
_MASKS = 64  # filters whose rows are kept


@dataclass(frozen=True)
class TextColumn:
    """codes: (n,) places in `values`, the most frequent first."""

    codes: NDArray[np.int32]
    values: list[str]
    counts: list[int]

    def passing(self, name: str, wanted: Wanted) -> NDArray[np.bool_]:
        """The rows with one of the values. Raises Refusal for a range."""
        if isinstance(wanted, Range):
            raise Refusal(
                UNPROCESSABLE, f"the column '{name}' holds text, not numbers: give a list of values"
            )
        asked = {one if isinstance(one, str) else f"{one:.15g}" for one in wanted}
        codes = [code for code, value in enumerate(self.values) if value in asked]
        return np.isin(self.codes, codes)

    def value(self, row: int) -> str | None:
        """Of an item; None if it has none."""
        return self.values[self.codes[row]] or None

    def info(self, name: str) -> ColumnInfo:
        """For `/v1/info`."""
        told = [ValueCount(*one) for one in zip(self.values, self.counts, strict=True) if one[0]]
        return ColumnInfo(name, "text", told[:_VALUES_TOLD], distinct=len(told))


@dataclass(frozen=True)
class NumberColumn:
    """numbers: (n,), NaN where an item has none."""

    numbers: NDArray[np.float64]

    def passing(self, name: str, wanted: Wanted) -> NDArray[np.bool_]:
        """The rows with one of the numbers, or within the range. Raises Refusal for text."""
        if isinstance(wanted, Range):
            low = -np.inf if wanted.min is None else wanted.min
            high = np.inf if wanted.max is None else wanted.max
            return np.asarray((self.numbers >= low) & (self.numbers <= high))
        try:
            numbers = [float(value) for value in wanted]
        except ValueError:
            raise Refusal(
                UNPROCESSABLE, f"the column '{name}' holds numbers: give numbers, not text"
            ) from None
        return np.isin(self.numbers, numbers)

    def value(self, row: int) -> int | float | None:
        """Of an item; None if it has none."""
        number = float(self.numbers[row])
        return None if np.isnan(number) else int(number) if number.is_integer() else number

    def info(self, name: str) -> ColumnInfo:
        """For `/v1/info`; values only where there are few."""
        known = self.numbers[~np.isnan(self.numbers)]
        values, counts = np.unique(known, return_counts=True)
        pairs = zip(values.tolist(), counts.tolist(), strict=True)
        told = [ValueCount(f"{value:.15g}", count) for value, count in pairs]
        few = told if len(told) <= _VALUES_TOLD else []
        return ColumnInfo(name, "number", few, len(told), float(values[0]), float(values[-1]))


class Filters:
    """The columns of a collection, and which rows pass a filter; used by several threads."""

    def __init__(self, table: HitTable) -> None:
        self.count = len(table.ids)
        self._stored: dict[str, Sequence[str]] = dict(table.metadata)
        if table.labels is not None:
            self._stored.setdefault(LABEL, table.labels)
        self.names = list(self._stored)
        self.metadata = list(table.metadata)
        self._ready: dict[str, TextColumn | NumberColumn] = {}
        self._masks: OrderedDict[bytes, NDArray[np.bool_]] = OrderedDict()
        self._lock = threading.RLock()

    def column(self, name: str) -> TextColumn | NumberColumn:
        """A column, made ready."""
        ready = self._ready.get(name)
        if ready is not None:  # the lock may be held for as long as another column takes
            return ready
        with self._lock:
            if name not in self._ready:
                text_only = name == LABEL and name not in self.metadata
                self._ready[name] = _ready(list(self._stored[name]), text_only=text_only)
            return self._ready[name]

    def prepare(self) -> None:
        """Make ready what `values` tells, so that it waits for nothing."""
        for name in self.metadata:
            self.column(name)

    def values(self, row: int) -> dict[str, str | int | float | None]:
        """The metadata of an item."""
        return {name: self.column(name).value(row) for name in self.metadata}

    def passing(self, where: Mapping[str, Wanted]) -> NDArray[np.bool_] | None:
        """Which of the n rows pass, or None if all do; an item without a column does not.

        Raises Refusal for values that are not of the column's kind.
        """
        if not where:
            return None
        asked = repr(sorted(where.items(), key=lambda one: one[0]))
        # Of any length, so it is not kept; without halves of characters, so it can be encoded.
        key = blake2b(asked.encode(), digest_size=16).digest()
        with self._lock:
            if key not in self._masks:
                passes = np.ones(self.count, dtype=bool)
                for name, wanted in where.items():
                    known = name in self._stored
                    passes &= self.column(name).passing(name, wanted) if known else False
                self._masks[key] = passes
            self._masks.move_to_end(key)
            while len(self._masks) > _MASKS:
                self._masks.popitem(last=False)
            return self._masks[key]

    @cached_property
    def infos(self) -> list[ColumnInfo]:
        """For `/v1/info`."""
        return [self.column(name).info(name) for name in self.names]


def _ready(strings: list[str], *, text_only: bool) -> TextColumn | NumberColumn:
    counted = Counter(strings).most_common()
    written = [value for value, _ in counted if value]
    if written and not text_only and all(map(_is_number, written)):
        numbers = {value: float(value) if value else np.nan for value, _ in counted}
        return NumberColumn(np.array([numbers[one] for one in strings]))
    places = {value: place for place, (value, _) in enumerate(counted)}
    codes: Any = np.fromiter((places[one] for one in strings), np.int32, len(strings))
    return TextColumn(codes, [value for value, _ in counted], [count for _, count in counted])


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and bool(np.isfinite(float(text)))
