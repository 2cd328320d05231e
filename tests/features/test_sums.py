"""Checksums behind a file's content find every damage of what is read, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from features.errors import UserError
from features.sums import BLOCK, BlockDigests, Data, Sums, append_sums, find_sums

ROWS = Data("rows", 100, 2 * BLOCK + 50)
MORE = Data("more", ROWS.start + ROWS.size + 7, 33)


@pytest.fixture(scope="module")
def content() -> bytes:
    return np.random.default_rng(0).bytes(MORE.start + MORE.size + 11)


def _written(path: Path, content: bytes, known: dict[str, list[int]] | None = None) -> Path:
    path.write_bytes(content)
    append_sums(path, [MORE, ROWS], known)
    return path


def _opened(path: Path, *, mapped: bool = True) -> Sums | None:
    with path.open("rb") as file:
        return find_sums(os.dup(file.fileno()), path, "copy it again", mapped=mapped)


def _put(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def test_the_content_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    assert _written(tmp_path / "f", content).read_bytes().startswith(content)


def test_digests_of_pieces_are_those_of_the_file(tmp_path: Path, content: bytes) -> None:
    digests = BlockDigests()
    data = memoryview(content)[ROWS.start : ROWS.start + ROWS.size]
    for start in range(0, len(data), 700_001):
        digests.update(data[start : start + 700_001])
    known = _written(tmp_path / "known", content, {"rows": digests.all()})
    assert known.read_bytes() == _written(tmp_path / "read", content).read_bytes()


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 49])
def test_damage_is_found_where_it_is_touched(
    tmp_path: Path, content: bytes, place: int, mapped: bool
) -> None:
    damaged = bytearray(_written(tmp_path / "f", content).read_bytes())
    damaged[ROWS.start + place] ^= 4
    (tmp_path / "f").write_bytes(damaged)
    sums = _opened(tmp_path / "f", mapped=mapped)
    assert sums is not None
    sums.blocks(*MORE).check(0, MORE.size)
    rows, block = sums.blocks(*ROWS), place // BLOCK
    for start, stop in ((0, block * BLOCK), ((block + 1) * BLOCK, ROWS.size)):
        if start < stop:
            rows.check(start, stop)
    with pytest.raises(UserError, match=r"f is damaged, bytes [\d,]+ to [\d,]+ of its rows .*copy"):
        rows.check(place, place + 1)
    with pytest.raises(UserError, match="of its rows are not what was written"):
        rows.check_each(np.array([7, place - place % 10]), 10)


def test_what_spans_blocks_is_checked_in_all_of_them(tmp_path: Path, content: bytes) -> None:
    damaged = bytearray(_written(tmp_path / "f", content).read_bytes())
    damaged[ROWS.start + BLOCK + 5] ^= 1
    (tmp_path / "f").write_bytes(damaged)
    sums = _opened(tmp_path / "f")
    assert sums is not None
    rows = sums.blocks(*ROWS)
    rows.check_each(np.array([0]), BLOCK)
    with pytest.raises(UserError, match="is damaged"):
        rows.check_each(np.array([1]), 2 * BLOCK)


@pytest.mark.parametrize("place", [0, 99, ROWS.start + ROWS.size + 3, -1])
def test_a_damaged_header_is_found_at_once(tmp_path: Path, content: bytes, place: int) -> None:
    damaged = bytearray(_written(tmp_path / "f", content).read_bytes())
    damaged[place if place >= 0 else len(content) - 1] ^= 1
    (tmp_path / "f").write_bytes(damaged)
    with pytest.raises(UserError, match="f is damaged, its header is not what was written: copy"):
        _opened(tmp_path / "f")


def test_a_damaged_table_is_never_taken_for_one(tmp_path: Path, content: bytes) -> None:
    whole = _written(tmp_path / "f", content).read_bytes()
    for place in range(len(content), len(whole)):
        _put(tmp_path / "f", place, bytes([whole[place] ^ 1 << place % 8]))
        try:
            assert _opened(tmp_path / "f") is None
        except UserError as error:
            assert "is damaged" in str(error)  # noqa: PT017  # both are right
        _put(tmp_path / "f", place, whole[place : place + 1])


def test_a_file_without_has_none(tmp_path: Path, content: bytes) -> None:
    for kept in (0, 1, 30, len(content)):
        (tmp_path / "f").write_bytes(content[:kept])
        assert _opened(tmp_path / "f") is None
