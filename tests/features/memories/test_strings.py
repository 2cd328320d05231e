"""A column of strings is a sequence that survives an HDF5 file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.memories.container import opened
from features.memories.strings import StringColumn, write_strings

unicode_lists = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20)


@given(unicode_lists)
def test_column_is_the_sequence_it_was_made_of(strings: list[str]) -> None:
    column = StringColumn.of(strings)
    assert list(column) == strings
    assert len(column) == len(strings)
    assert [column[i] for i in range(len(strings))] == strings
    assert [column[i - len(strings)] for i in range(len(strings))] == strings


@given(unicode_lists, st.slices(20))
def test_slices_are_those_of_a_list(strings: list[str], part: slice) -> None:
    assert StringColumn.of(strings)[part] == strings[part]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(unicode_lists)
def test_round_trip_through_a_file(tmp_path: Path, strings: list[str]) -> None:
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        write_strings(file, "names", StringColumn.of(strings))
    with opened(path, "") as file:
        column = file.strings("names")
    assert list(column) == strings


def test_column_is_memory_mapped(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        write_strings(file, "names", StringColumn.of(["a", "", "\0ü\n"]))
    with opened(path, "") as file:
        column = file.strings("names")
    assert isinstance(column.utf8, np.memmap)
    assert isinstance(column.offsets, np.memmap)
    assert column.offsets.tolist() == [0, 1, 1, 5]
    assert column[-1] == "\0ü\n"
    assert "a" in column
    assert column.index("") == 1


@pytest.mark.parametrize("row", [2, -3, 10**9])
def test_a_row_that_is_not_there_is_an_index_error(row: int) -> None:
    with pytest.raises(IndexError):
        StringColumn.of(["a", "b"])[row]
