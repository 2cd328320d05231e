"""Locks: one holder at a time, also where the holder removes the file."""

from __future__ import annotations

import errno
import fcntl

import pytest

from features.errors import UserError
from features.locks import take_lock


def test_a_lock_is_held_until_it_is_closed(tmp_path):
    held = take_lock(tmp_path / "lock", "taken")
    with pytest.raises(UserError, match=r"^taken$"):
        take_lock(tmp_path / "lock", "taken")
    held.close()
    take_lock(tmp_path / "lock", "taken").close()


def test_a_file_that_was_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    path, flock, calls = tmp_path / "lock", fcntl.flock, []

    def removed(lock, how):
        calls.append(1)
        if len(calls) == 1:
            path.unlink()  # by its holder, after this process opened it
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", removed)
    with take_lock(path, "taken"), pytest.raises(UserError, match="taken"):
        take_lock(path, "taken")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EIO])
def test_without_locks_of_the_file_system_there_are_none(tmp_path, monkeypatch, number):
    def refused(*_):
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refused)
    if number == errno.EIO:
        with pytest.raises(OSError, match="no locks"):
            take_lock(tmp_path / "lock", "taken")
    else:
        take_lock(tmp_path / "lock", "taken").close()
