"""Why a file could not be written is said in one sentence, whichever library tells it how."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from features.errors import UserError
from features.files import explained, replacing

REASONS = [
    (errno.ENOSPC, r"the disk is full: .*out could not be written with [\d.]+ MB free; make room"),
    (errno.EDQUOT, r"the disk is full: .*MB free \(Disk quota exceeded\); make room"),
    (errno.EFBIG, r"out could not be written: .*\(File too large, see `ulimit -f`\); raise"),
    (errno.EIO, r"out could not be written: the disk failed \(Input/output error\); check it"),
    (errno.EROFS, r"out may not be written \(Read-only file system\): choose another output"),
]


@pytest.mark.parametrize(("number", "told"), REASONS)
def test_the_system_s_reason_is_told_as_error_or_in_the_words_of_a_library(
    tmp_path: Path, number: int, told: str
) -> None:
    for error in (OSError(number, "?"), RuntimeError(f"write failed: {os.strerror(number)} (5)")):
        with pytest.raises(UserError, match=told), explained(tmp_path / "out"):
            raise error


def _fail(error: Exception) -> None:
    raise error


def test_what_is_explained_already_and_what_is_none_of_the_system_s_stays(tmp_path: Path) -> None:
    told = UserError("the disk is full: inner (Disk quota exceeded)")
    with pytest.raises(UserError) as error, explained(tmp_path / "outer"):
        _fail(told)
    assert error.value is told
    with pytest.raises(RuntimeError, match="a mistake of ours"), explained(tmp_path):
        _fail(RuntimeError("a mistake of ours"))


def test_the_old_file_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(UserError, match="the disk failed"), replacing(path) as temporary:
        _fail(OSError(errno.EIO, str(temporary.write_text("ne"))))
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert path.read_text() == "old"
