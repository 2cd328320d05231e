"""Filters on metadata: what kinds of columns there are, and what passes."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import UserError
from features.search.filters import (
    NumberColumn,
    Range,
    TableFilters,
    TextColumn,
    parse_where,
)
from features.search.index import HitTable

TABLE = HitTable(
    ids=["a", "b", "c", "d"], items=["a", "b", "c", "d"], labels=["07", "7", "07", "x"], root=None,
    metadata={"year": ["2001", "", "1999.5", "-3"], "code": ["01", "2", "", "01"]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        ({"year": Range(min=1999.5)}, "ac"),
        ({"year": Range(max=2000)}, "cd"),
        ({"year": Range(min=0, max=2000)}, "c"),
        ({"year": [2001, -3.0]}, "ad"),
        ({"year": ["2001"]}, "a"),
        ({"code": ["01"]}, "ad"),
        ({"code": [2]}, "b"),
        ({"code": [""]}, "c"),
        ({"label": ["07"]}, "ac"),
        ({"label": ["07"], "year": Range(min=2000)}, "a"),
        ({"elsewhere": ["1"]}, ""),
    ],
)
def test_what_passes_a_filter(where, passes: str) -> None:
    allowed = TableFilters(TABLE).passing(where)
    assert "".join(np.array(list("abcd"))[allowed]) == passes


def test_columns_are_of_numbers_or_of_text() -> None:
    filters = TableFilters(TABLE)
    assert isinstance(filters.column("year"), NumberColumn)
    assert isinstance(filters.column("code"), TextColumn)  # zeros would be lost
    assert filters.values(0) == {"year": 2001, "code": "01"}
    assert filters.values(1) == {"year": None, "code": "2"}
    year, code, label = filters.infos
    assert (year.minimum, year.maximum, year.distinct) == (-3, 2001, 3)
    assert [(one.value, one.count) for one in code.values] == [("01", 2), ("2", 1)]
    assert label.name == "label"
    with pytest.raises(UserError, match="holds text"):
        filters.passing({"code": Range(min=1)})
    with pytest.raises(UserError, match="holds numbers"):
        filters.passing({"year": ["new"]})


def test_what_is_kept_of_a_filter_is_short() -> None:
    filters = TableFilters(TABLE)
    for value in ("x" * 4096, "\ud800"):
        assert not filters.passing({"code": [value]}).any()
    assert filters.passing({"code": ["01"]}).any()
    assert len(filters.recent) == 3
    assert sum(map(len, filters.recent._made)) < 100


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ([("label", "07")], "ac"),
        ([("label", "07"), ("label", "x")], "acd"),
        ([("label", "07"), ("code", "01")], "a"),
        ([("year", "1999..2001")], "ac"),
        ([("year", "..1999.5")], "cd"),
        ([("year", "2000..")], "a"),
        ([("year", "..")], "acd"),
        ([("year", "2001"), ("year", "-3")], "ad"),
        ([("code", "1..2")], ""),
        ([], "abcd"),
    ],
)
def test_filters_of_the_command_line(given, passes: str) -> None:
    filters = TableFilters(TABLE)
    allowed = filters.passing(parse_where(filters, given))
    assert "".join(np.array(list("abcd"))[slice(None) if allowed is None else allowed]) == passes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("yaer", "1")], "no column is called 'yaer', there are year, code, label: name one"),
        ([("year", "1..2"), ("year", "5")], "'year' is given a range and other values"),
        ([("year", "old..2")], "'year' holds numbers: give numbers, not text"),
    ],
)
def test_what_is_no_filter(given, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_where(TableFilters(TABLE), given)
