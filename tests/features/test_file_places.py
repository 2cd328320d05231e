"""Files and folders that take their place whole, and what killed processes leave beside them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from features.errors import UserError
from features.files import coming_folder, move_folder, refuse_existing, remove_leftovers, replacing
from tests.features.helpers import ended_process


def _temporary(name: str, process: int, *, more: str = "") -> str:
    return f".{name}.{platform.node()}-{process}{more}.tmp"


def test_leftovers_of_killed_processes_go_and_no_others(tmp_path: Path) -> None:
    ended = ended_process()
    (tmp_path / _temporary("a.h5", ended)).touch()
    (tmp_path / _temporary("coming", ended, more="-x7f")).mkdir()
    (tmp_path / _temporary("coming", ended, more="-x7f") / "file").touch()
    kept = [_temporary("a.h5", os.getppid()), f".a.h5.elsewhere-{ended}.tmp", ".notes.tmp", "a.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_new_file_does_not_replace_one_that_came_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    told = r"a\.h5 was made by another process meanwhile: keep it, pass --overwrite"

    def write() -> None:
        with replacing(path, new=True) as temporary:
            temporary.write_text("mine")
            path.write_text("another's")

    with pytest.raises(UserError, match=told):
        write()
    assert path.read_text() == "another's"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine"


def test_a_folder_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / _temporary("coming", ended_process(), more="-x7f")).mkdir()
    with coming_folder(tmp_path, "out") as made:
        (made / "file").write_text("content")
        assert not (tmp_path / "out").exists()
        move_folder(made, tmp_path / "out")
    told = "out was made by another process meanwhile"
    with pytest.raises(UserError, match=told), coming_folder(tmp_path, "out") as made:
        move_folder(made, tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "out",
        "out/file",
    ]


def test_one_killed_when_its_file_had_just_come_leaves_nothing_after_the_next(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.h5"
    path.touch()
    os.link(path, tmp_path / _temporary("a.h5", ended_process()))
    with pytest.raises(UserError, match=r"a\.h5 exists"):
        refuse_existing(path, overwrite=False)
    assert list(tmp_path.iterdir()) == [path]
