"""Items as columns: what a list of them would be, in a fraction of the room."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.extraction.items import Item, Items
from features.memories.strings import StringBuilder, StringColumn
from features.memories.unique import repetitions

WORDS = st.text(st.characters(), max_size=12)  # lone surrogates among them, as in file names
LISTS = st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), max_size=40)


def _items(rows: list[tuple[str, str, str, str]]) -> list[Item]:
    return [Item(name, value, label, (more,)) for name, value, label, more in rows]


@given(LISTS, st.data())
def test_columns_are_what_a_list_is(rows, data: st.DataObject) -> None:
    wanted = _items(rows)
    found = Items.of(wanted)
    assert len(found) == len(wanted)
    assert list(found) == wanted == [found[row] for row in range(len(wanted))]
    assert [one.metadata for one in found] == [one.metadata for one in wanted]
    start, stop, step = (
        data.draw(st.integers(-45, 45)), data.draw(st.integers(-45, 45)),
        data.draw(st.sampled_from([1, 1, 2, 7, -1])),
    )  # fmt: skip
    assert list(found[start:stop:step]) == wanted[start:stop:step]
    chosen = np.array(data.draw(st.lists(st.sampled_from(range(len(wanted))))) if wanted else [])
    assert list(found.take(chosen.astype(np.intp))) == [wanted[row] for row in chosen]


@given(LISTS, LISTS)
def test_the_digest_tells_one_list_from_another(one, other) -> None:
    alike = Items.of(_items(one)).digest() == Items.of(_items(other)).digest()
    assert alike == (one == other)


def test_labels_are_kept_only_if_all_items_have_one() -> None:
    some = Items.of([Item("a", "a", "x"), Item("b", "b")])
    assert [item.label for item in some] == [None, None]


def test_a_row_that_is_not_there_is_refused() -> None:
    items = Items.of([Item("a", "a")])
    assert items[-1] == items[0]
    for row in (1, -2):
        with pytest.raises(IndexError):
            items[row]


@given(st.lists(WORDS, max_size=60))
def test_every_repetition_is_found_with_its_first_row(strings: list[str]) -> None:
    first: dict[str, int] = {}
    wanted = [
        (first[string], row)
        for row, string in enumerate(strings)
        if first.setdefault(string, row) != row
    ]
    assert list(repetitions(StringColumn.of(strings))) == wanted


def test_columns_longer_than_a_block_are_cut_and_gathered() -> None:
    """More strings than are copied at a time."""
    strings = [f"{number:x}" * (number % 5) for number in range(200_000)]
    builder = StringBuilder()
    for string in strings:
        builder.append(string)
    column = builder.column()
    assert list(column) == strings
    assert list(column.part(65_000, 140_000)) == strings[65_000:140_000]
    rows = random.Random(0).choices(range(len(strings)), k=150_000)
    assert list(column.take(np.array(rows))) == [strings[row] for row in rows]
