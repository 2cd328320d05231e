"""Filters on the metadata of items: which rows have the wanted values.

A column whose values are all numbers, as they are usually written, is one of numbers; any other is
text, also numbers with zeros before them. Both are made ready at their first use, four or eight
bytes a row. The items' classes are the column `label`, of text, unless another has that name. An
item without a value passes no filter but that for the empty string.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from features.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.search.index import HitTable

LABEL = "label"
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_VALUES_TOLD = 50
_KEPT = 64  # filters whose rows are kept


@dataclass(frozen=True)
class Range:
    """Numbers from `min` to `max`, both included; None where there is no bound."""

    min: float | None = None
    max: float | None = None


class FilterError(UserError):
    """Values that are not of their column's kind."""


Wanted = Sequence["str | float"] | Range
Where = Mapping[str, Wanted]  # column -> values, one of which an item has, or a range


@dataclass(frozen=True)
class ValueCount:
    """A value of a column, and how many items have it."""

    value: str
    count: int


@dataclass(frozen=True)
class ColumnInfo:
    """A metadata column. values: the most frequent of a text column; bounds: of a number's."""

    name: str
    kind: Literal["text", "number"]
    values: list[ValueCount] = field(default_factory=list)
    distinct: int = 0
    minimum: int | float | None = None
    maximum: int | float | None = None


class Filters(Protocol):
    """The columns of a collection, and what passes a filter on them; used by several threads.

    names: of all columns that can be filtered on. metadata: of those that items tell.
    """

    names: list[str]
    metadata: list[str]

    @property
    def infos(self) -> list[ColumnInfo]:
        """What is known of every column."""

    def kind(self, name: str) -> Literal["text", "number"]:
        """What the column `name` holds."""

    def prepare(self) -> None:
        """Do beforehand what the first filters would wait for."""

    def values(self, row: int) -> dict[str, str | int | float | None]:
        """The metadata of an item."""

    def passing(self, where: Where) -> Any:
        """What passes, as the same collection's search takes it; None if all do.

        Raises FilterError for values that are not of the column's kind.
        """

    def count(self, passing: Any) -> int:
        """How many items that is."""


def wanted_texts(name: str, wanted: Wanted) -> list[str]:
    """The values that a text column may have. Raises FilterError for a range."""
    if isinstance(wanted, Range):
        raise FilterError(f"the column '{name}' holds text, not numbers: give a list of values")
    return [one if isinstance(one, str) else f"{one:.15g}" for one in wanted]


def wanted_numbers(name: str, wanted: Sequence[str | float]) -> list[float]:
    """The numbers that a column may have. Raises FilterError for text."""
    try:
        return [float(value) for value in wanted]
    except ValueError:
        raise FilterError(f"the column '{name}' holds numbers: give numbers, not text") from None


def as_number(number: float) -> int | float | None:
    """A number of a column as it is told: whole where it is, None for NaN."""
    return None if np.isnan(number) else int(number) if number.is_integer() else number


def parse_where(filters: Filters, given: Iterable[tuple[str, str]]) -> Where:
    """A filter of pairs of a column and a value, as on the command line.

    Several values of a column are alternatives; `MIN..MAX` of one with numbers is a range, in which
    either may be left out. Raises UserError for a column that there is not, or a range and more.
    """
    found: dict[str, list[str | float]] = {}
    ranges: dict[str, Range] = {}
    for name, value in given:
        if name not in filters.names:
            known = ", ".join(filters.names) or "none"
            raise UserError(f"no column is called '{name}', there are {known}: name one of these")
        low, dots, high = value.partition("..")
        if dots and filters.kind(name) == "number":
            ranges[name] = Range(*(_bound(name, end) for end in (low, high)))
        found.setdefault(name, []).append(value)
    for name in ranges:
        if len(found[name]) > 1:
            raise UserError(f"'{name}' is given a range and other values: give one range")
    return {**found, **ranges}


def _bound(name: str, text: str) -> float | None:
    return wanted_numbers(name, [text])[0] if text else None


@dataclass(frozen=True)
class TextColumn:
    """codes: (n,) places in `values`, the most frequent first."""

    codes: NDArray[np.int32]
    values: list[str]
    counts: list[int]

    def passing(self, name: str, wanted: Wanted) -> NDArray[np.bool_]:
        """The rows with one of the values. Raises UserError for a range."""
        asked = set(wanted_texts(name, wanted))
        codes = [code for code, value in enumerate(self.values) if value in asked]
        return np.isin(self.codes, codes)

    def value(self, row: int) -> str | None:
        """Of an item; None if it has none."""
        return self.values[self.codes[row]] or None

    def info(self, name: str) -> ColumnInfo:
        """The most frequent values."""
        told = [ValueCount(*one) for one in zip(self.values, self.counts, strict=True) if one[0]]
        return ColumnInfo(name, "text", told[:_VALUES_TOLD], distinct=len(told))


@dataclass(frozen=True)
class NumberColumn:
    """numbers: (n,), NaN where an item has none."""

    numbers: NDArray[np.float64]

    def passing(self, name: str, wanted: Wanted) -> NDArray[np.bool_]:
        """The rows with one of the numbers, or within the range. Raises UserError for text."""
        if isinstance(wanted, Range):
            low = -np.inf if wanted.min is None else wanted.min
            high = np.inf if wanted.max is None else wanted.max
            return np.asarray((self.numbers >= low) & (self.numbers <= high))
        return np.isin(self.numbers, wanted_numbers(name, wanted))

    def value(self, row: int) -> int | float | None:
        """Of an item; None if it has none."""
        return as_number(float(self.numbers[row]))

    def info(self, name: str) -> ColumnInfo:
        """Bounds, and values where there are few."""
        known = self.numbers[~np.isnan(self.numbers)]
        values, counts = np.unique(known, return_counts=True)
        pairs = zip(values.tolist(), counts.tolist(), strict=True)
        told = [ValueCount(f"{value:.15g}", count) for value, count in pairs]
        few = told if len(told) <= _VALUES_TOLD else []
        return ColumnInfo(name, "number", few, len(told), float(values[0]), float(values[-1]))


class Recent:
    """What the last few filters let pass, by what was asked; used by several threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._made: OrderedDict[bytes, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def get(self, where: Where, make: Any) -> Any:
        """What `make(where)` gave before, or gives now."""
        asked = repr(sorted(where.items(), key=lambda one: one[0]))
        # Of any length, so it is not kept; without halves of characters, so it can be encoded.
        key = blake2b(asked.encode(errors="surrogatepass"), digest_size=16).digest()
        with self.lock:
            if key not in self._made:
                self._made[key] = make(where)
            self._made.move_to_end(key)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
            return self._made[key]


class TableFilters:
    """`Filters` over columns that are at hand: what passes is a mask of rows."""

    def __init__(self, table: HitTable) -> None:
        self.rows = len(table.ids)
        self._stored: dict[str, Sequence[str]] = dict(table.metadata)
        if table.labels is not None:
            self._stored.setdefault(LABEL, table.labels)
        self.names = list(self._stored)
        self.metadata = list(table.metadata)
        self._ready: dict[str, TextColumn | NumberColumn] = {}
        self.recent = Recent()

    def column(self, name: str) -> TextColumn | NumberColumn:
        """A column, made ready."""
        ready = self._ready.get(name)
        if ready is not None:  # the lock may be held for as long as another column takes
            return ready
        with self.recent.lock:
            if name not in self._ready:
                text_only = name == LABEL and name not in self.metadata
                self._ready[name] = read_column(list(self._stored[name]), text_only=text_only)
            return self._ready[name]

    def kind(self, name: str) -> Literal["text", "number"]:
        """See `Filters`."""
        return "number" if isinstance(self.column(name), NumberColumn) else "text"

    def prepare(self) -> None:
        """Make ready what `values` tells, so that it waits for nothing."""
        for name in self.metadata:
            self.column(name)

    def values(self, row: int) -> dict[str, str | int | float | None]:
        """See `Filters`."""
        return {name: self.column(name).value(row) for name in self.metadata}

    def passing(self, where: Where) -> NDArray[np.bool_] | None:
        """Which of the n rows pass, or None if all do. Raises UserError as `Filters` says."""
        mask: NDArray[np.bool_] | None = self.recent.get(where, self._mask) if where else None
        return mask

    def _mask(self, where: Where) -> NDArray[np.bool_]:
        passes = np.ones(self.rows, dtype=bool)
        for name, wanted in where.items():
            known = name in self._stored
            passes &= self.column(name).passing(name, wanted) if known else False
        return passes

    def count(self, passing: NDArray[np.bool_]) -> int:
        """See `Filters`."""
        return int(passing.sum())

    @cached_property
    def infos(self) -> list[ColumnInfo]:
        """See `Filters`."""
        return [self.column(name).info(name) for name in self.names]


def read_column(strings: list[str], *, text_only: bool) -> TextColumn | NumberColumn:
    """A column of numbers if all of its values are, and else one of text."""
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
