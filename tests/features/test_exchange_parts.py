"""The pieces of import and export: norms, uniqueness, joined columns, reading ahead, neighbours."""

from __future__ import annotations

import math
import threading
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import UserError
from features.exchange.ahead import ahead
from features.exchange.join import join, join_lines, numbers, split_lines
from features.exchange.neighbors import exact_neighbors, read_neighbors, write_ibin
from features.memories import unique
from features.memories.norms import row_norms, unit
from features.memories.strings import StringColumn
from features.memories.unique import first_repetition
from features.memories.writing import save_memory
from tests.features.helpers import saved, unit_rows


def test_norms_of_every_half_precision_number_are_exact():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 1)
    expected = np.abs(every.astype(np.float64)).ravel()
    with np.errstate(invalid="ignore"):  # signalling NaNs
        expected[np.isinf(expected)] = np.nan
        np.testing.assert_array_equal(row_norms(every), expected)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (1500, 512), (3, 300_000), (0, 4)])
def test_norms_are_those_of_numpy(shape: tuple[int, int], dtype: str):
    rows = (np.random.default_rng(0).standard_normal(shape) * 3).astype(dtype)
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(row_norms(rows), np.sqrt((wide * wide).sum(axis=1)), rtol=2e-6)
    turned = np.asfortranarray(rows)
    np.testing.assert_allclose(row_norms(turned), row_norms(rows), rtol=2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_norms_show_what_is_not_finite(bad: float):
    rows = np.ones((3, 600), dtype=np.float16)
    rows[1, 599] = bad
    rows[2] = 60_000  # finite, although the norm is beyond float16
    norms = row_norms(rows)
    assert not np.isfinite(norms[1])
    np.testing.assert_allclose(norms[[0, 2]], [600**0.5, 59_968 * 600**0.5], rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_of_every_size_are_precise(dtype: Any):
    info = np.finfo(dtype)
    sizes = np.geomspace(float(info.tiny), float(info.max) / 30, 400)
    rows = np.random.default_rng(0).standard_normal((400, 40)).clip(-9, 9)
    rows = (rows / 9 * sizes[:, None]).astype(dtype)
    with np.errstate(under="ignore"):
        expected = [math.hypot(*row) for row in rows.tolist()]
    np.testing.assert_allclose(row_norms(rows), expected, rtol=2e-6)
    np.testing.assert_allclose(unit(rows, row_norms(rows)), rows / np.array(expected)[:, None],
                               rtol=2e-6, atol=1e-7)  # fmt: skip
    assert row_norms(np.full((1, 40), info.max, dtype))[0] < np.inf
    assert row_norms(np.zeros((2, 40), dtype)).tolist() == [0, 0]


@given(st.lists(st.text(max_size=3), max_size=30))
def test_the_first_repetition_is_that_of_a_loop(strings: list[str]):
    expected = next(
        ((strings.index(one), i) for i, one in enumerate(strings) if one in strings[:i]), None
    )
    assert first_repetition(StringColumn.of(strings)) == expected


def test_repetitions_are_found_across_blocks_and_equal_hashes_are_no_repetitions(
    monkeypatch: pytest.MonkeyPatch,
):
    names = [str(i) for i in range(40_000)]
    assert first_repetition(StringColumn.of(names)) is None
    assert first_repetition(StringColumn.of([*names, "7"])) == (7, 40_000)
    monkeypatch.setattr(unique, "_hashes", lambda column: np.zeros(len(column), np.uint64))
    assert first_repetition(StringColumn.of(names[:500])) is None
    assert first_repetition(StringColumn.of([*names[:500], "9"])) == (9, 500)


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))))
def test_lines_are_split_as_they_were_joined(lines: list[str]):
    column = StringColumn.of(lines)
    assert join_lines(column).decode() == "".join(f"{line}\n" for line in lines)
    assert list(split_lines(join_lines(column))) == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\n\na\n", ["", "", "a"]),
        (b"", []),
    ],
)
def test_line_breaks_of_all_kinds(text: bytes, lines: list[str]):
    assert list(split_lines(text)) == lines


def test_columns_are_joined_and_numbered():
    parts = [["a", ""], [], ["é", "bb"]]
    joined = join([StringColumn.of(part) for part in parts])
    assert list(joined) == ["a", "", "é", "bb"]
    for count in (0, 1, 10, 1234, 70_000):
        assert list(numbers(count)) == [str(i) for i in range(count)]


def test_reading_ahead_keeps_order_passes_errors_on_and_ends_its_thread():
    assert list(ahead(iter(range(100)))) == list(range(100))

    def failing() -> Any:
        yield 1
        raise UserError("broken")

    broken = ahead(failing())
    assert next(broken) == 1
    with pytest.raises(UserError, match="broken"):
        next(broken)
    before = threading.active_count()
    with closing(ahead(iter(range(1000)))) as items:
        assert next(items) == 0
    assert threading.active_count() == before


def test_exact_neighbours_are_those_of_brute_force(tmp_path, monkeypatch):
    monkeypatch.setattr("features.exchange.neighbors._SEARCHED", 16)
    memory, queries = saved(tmp_path / "m.h5", 50), saved(tmp_path / "q.h5", 7)
    found = exact_neighbors(queries, memory, 5)
    cosine = np.asarray(queries.embeddings) @ np.asarray(memory.embeddings).T
    np.testing.assert_array_equal(found.rows, np.argsort(-cosine, axis=1)[:, :5])
    assert found.distances is not None
    np.testing.assert_allclose(found.distances, 1 - np.sort(cosine)[:, :-6:-1], atol=1e-6)
    assert exact_neighbors(queries, memory, 99).rows.shape == (7, 50)


def test_neighbours_come_back_from_an_ibin_file_and_a_cut_one_is_refused(tmp_path):
    memory = saved(tmp_path / "m.h5", 20)
    found = exact_neighbors(memory, memory, 3)
    write_ibin(found, tmp_path / "n.ibin")
    np.testing.assert_array_equal(read_neighbors(tmp_path / "n.ibin").rows, found.rows)
    content = (tmp_path / "n.ibin").read_bytes()
    assert content[:8] == np.array([20, 3], dtype="<u4").tobytes()
    (tmp_path / "n.ibin").write_bytes(content[:-4])
    with pytest.raises(UserError, match=r"244 bytes but the 20 x 3 neighbours .* need 248"):
        read_neighbors(tmp_path / "n.ibin")


def test_queries_of_another_space_are_refused(tmp_path):
    memory = saved(tmp_path / "m.h5")
    other = save_memory(tmp_path / "o.h5", unit_rows(3, 8), "abc", space="other", modality="text")
    with pytest.raises(UserError, match=r"o\.h5 is of the space other .* of s \(8-d\)"):
        exact_neighbors(other, memory, 1)
