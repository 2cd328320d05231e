"""JSON and lines with checksums say when they are not what was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from features.sealed import (
    read_sealed,
    sealed,
    sealed_line,
    sealed_text,
    text_is_changed,
    unsealed,
    unsealed_line,
)

CONTENT = {"a": 1, "b": [0.1, None, "ü"], "c": {"1": float("inf")}, "d": "0123456789abcdef"}


def test_what_was_sealed_is_read(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(json.dumps(sealed(CONTENT)), "utf-8")
    assert read_sealed(tmp_path / "f.json") == CONTENT
    laid_out = json.dumps(sealed(CONTENT), indent=3, sort_keys=True)
    assert unsealed(json.loads(laid_out)) == CONTENT
    assert unsealed(sealed({"pair": (1, 2), 3: 4})) == {"pair": (1, 2), 3: 4}


def test_files_without_a_checksum_are_read() -> None:
    assert unsealed(dict(CONTENT)) == CONTENT


@pytest.mark.parametrize("told", [[], None, 3, "text"])
def test_what_is_no_object_is_refused(told: object) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        unsealed(told)


def test_any_flipped_bit_is_found() -> None:
    whole = json.dumps(sealed(CONTENT)).encode()
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            try:
                found = unsealed(json.loads(damaged))
            except ValueError:
                continue
            assert found == CONTENT  # a space became another one


def test_lines_that_are_not_whole_are_none() -> None:
    line = sealed_line(["a", 1])
    assert unsealed_line(line) == ["a", 1]
    assert unsealed_line(line[:-1]) is None
    assert unsealed_line(line.replace(b"1]", b"2]")) is None
    assert unsealed_line(b"\n") is None


def test_text_tells_that_it_was_changed() -> None:
    text = sealed_text("a = 1\n# why\n")
    assert not text_is_changed(text)
    assert text_is_changed(text.replace("a = 1", "a = 2"))
    assert all(text_is_changed(text[:kept]) for kept in range(len(text)))
    assert text_is_changed("a = 1\n" + text)
    assert not text_is_changed("a = 1\n")
