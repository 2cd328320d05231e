"""`mcr extract --shard` and `mcr merge`: as a shell loop or a job array would run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import done, mcr

SENTENCES = ["one hundred one", "two hundred two", "three hundred three", "four hundred four"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    return path


def _extract(source: Path, out: Path, *more: str) -> list[str]:
    return [
        "extract", str(source), "-e", "mini-clip", "-m", "text", "-o", str(out),
        "--batch-size", "1", "--device", "cpu", *more,
    ]  # fmt: skip


def test_shards_are_merged_to_what_one_run_makes(source, tmp_path):
    out = tmp_path / "m.h5"
    for number in (3, 1, 2):
        result = done(*_extract(source, out, "--shard", f"{number}/3"))
        assert f"m.{number}-of-3.h5" in result.stdout
    again = done(*_extract(source, out, "--shard", "1/3"))
    assert "1 of 1 items were done before" in again.stderr
    told = json.loads(done("merge", "-o", out, "--json").stdout)
    done(*_extract(source, tmp_path / "whole.h5"))
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert (told["items"], told["failures"]) == (4, 0)


@pytest.mark.parametrize(
    ("shards", "arguments", "message"),
    [
        ((), ("-o", "m.h5"), "there are no shards m.I-of-N.h5 beside m.h5: make them with"),
        ((1,), ("-o", "m.h5"), "1 of 2 shards are missing (2): run the same `mcr extract` with"),
        ((1,), ("none.h5", "-o", "m.h5"), "memory none.h5 does not exist: check the path"),
        ((), ("-o", "m"), "a memory is called NAME.h5, not m"),
    ],
)
def test_what_cannot_be_merged_is_said(source, tmp_path, monkeypatch, shards, arguments, message):
    monkeypatch.chdir(tmp_path)
    for number in shards:
        done(*_extract(source, Path("m.h5"), "--shard", f"{number}/2"))
    result = mcr("merge", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_shard_is_written_as_i_of_n(source, tmp_path):
    result = mcr(*_extract(source, tmp_path / "m.h5", "--shard", "5/4"))
    assert result.exit_code == 2
    assert "--shard 5/4 is not a shard: write I/N" in result.stderr
