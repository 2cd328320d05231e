"""Foreign code that a file makes crash or run forever does so in a process apart."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from features import apart
from features.apart import LostError, call_apart
from features.hdf5 import put_text, texts_of
from features.memories.memory import Memory
from tests.features.helpers import saved


def test_a_call_returns_or_raises():
    assert call_apart("os.path", "basename", "/a/b") == "b"
    with pytest.raises(ValueError, match="No such file or directory: '/nowhere'"):
        call_apart("os", "listdir", "/nowhere")


@pytest.mark.parametrize("function", [("os", "abort"), ("signal", "pause")])
def test_a_crash_or_an_endless_call_ends_alone(
    function: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(apart, "PATIENCE", 1)
    with pytest.raises(LostError):
        call_apart(*function)
    assert call_apart("os.path", "basename", "/a/b") == "b"


def test_a_fork_asks_a_process_of_its_own():
    first = call_apart("os", "getppid")
    child = os.fork()
    if child == 0:
        os._exit(call_apart("os", "getppid") == first)
    assert os.waitpid(child, 0)[1] == 0
    assert call_apart("os", "getppid") == first


@pytest.mark.parametrize("text", ["", "words", "größe", "x" * 100_000])
def test_texts_come_back(tmp_path: Path, text: str):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="v110") as file:
        put_text(file, "fixed", text)
        file.attrs["anywhere"] = text
        file.attrs["number"] = 3
    with h5py.File(path) as file:
        names = ("fixed", "anywhere", "number", "missing")
        assert texts_of(file, path, names) == {"fixed": text, "anywhere": text}


def test_texts_that_are_not_utf8_are_refused(tmp_path: Path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["a"] = np.bytes_(b"\xff")
    with h5py.File(path) as file, pytest.raises(ValueError, match="utf-8"):
        texts_of(file, path, ("a",))


def test_a_heap_that_hdf5_runs_around_forever_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="v110") as file:
        file.attrs["a"] = "words"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 24 : heap + 32] = struct.pack("<Q", 2**64 - 16)  # the size of its first text
    path.write_bytes(content)
    monkeypatch.setattr(apart, "PATIENCE", 1)
    with h5py.File(path) as file, pytest.raises(ValueError, match="HDF5 cannot read its attr"):
        texts_of(file, path, ("a",))


def test_a_memory_of_an_earlier_version_is_read(tmp_path: Path):
    memory = saved(tmp_path / "m.h5")
    with h5py.File(memory.path, "r+") as file:
        file.attrs.pop("checksums")
        for name in ("space", "encoder", "extra"):
            held = bytes(file.attrs[name]).decode()
            file.attrs[name] = held  # of any length, as they were written
    again = Memory(memory.path)
    assert again.header == memory.header
    assert list(again.ids) == list(memory.ids)
