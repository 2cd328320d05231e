"""Items that cannot be embedded: alone they end the extraction, among good ones they are listed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.memories.memory import Memory
from tests.cli.conftest import KINDS, NUMBERS, Workshop, mcr

SPACES = {"image": "sees", "audio": "hears", "points": "shapes", "text": "sees"}


def write_bad(path: Path, kind: str, good: Path) -> None:
    """A file of the good one's modality that is broken in the way of `kind`."""
    if kind == "truncated":
        path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    elif kind == "zero bytes":
        path.write_bytes(b"")
    elif kind in ("zero length", "one sample"):
        soundfile.write(path, np.zeros(int(kind == "one sample")), 8000)
    elif kind == "few points":
        np.savez(path, xyz=np.random.default_rng(0).normal(size=(3, 3)))
    elif kind == "one place":
        np.savez(path, xyz=np.ones((100, 3)))
    else:
        cloud = np.random.default_rng(0).normal(size=(100, 3))
        cloud[7, 1] = np.nan
        np.savez(path, xyz=cloud)


CASES = [
    ("image", "truncated", "cannot be decoded as an image ("),
    ("image", "zero bytes", "cannot be decoded as an image ("),
    ("audio", "zero bytes", "cannot be decoded as a sound ("),
    ("audio", "zero length", "the sound has 0 samples, needs at least 2"),
    ("audio", "one sample", "the sound has 1 sample, needs at least 2"),
    ("points", "truncated", "cannot be read as a point cloud ("),
    ("points", "zero bytes", "cannot be read as a point cloud ("),
    ("points", "NaN", "1 of 100 points are NaN or infinite"),
    ("points", "few points", "the point cloud has 3 points, needs at least 8"),
    ("points", "one place", "all points of the cloud are the same"),
]


def folder_of(workshop: Workshop, folder: Path, modality: str, kind: str, good: int) -> Path:
    folder.mkdir()
    sources = [workshop.item(modality, number) for number in NUMBERS[: max(1, good)]]
    write_bad(folder / f"a-bad.{KINDS[modality][1]}", kind, sources[0])
    for source in sources[:good]:
        shutil.copy(source, folder)
    return folder


@pytest.mark.parametrize(("modality", "kind", "reason"), CASES)
def test_alone_it_ends_the_extraction_with_its_name_and_reason(
    workshop, tmp_path, modality, kind, reason
):
    folder = folder_of(workshop, tmp_path / "in", modality, kind, good=0)
    out = tmp_path / "out.h5"
    spec = workshop.specs[SPACES[modality]]
    result = mcr("extract", folder, "-e", spec, "-m", modality, "-o", out)
    assert result.exit_code == 1
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: none of the 1 items could be embedded; the first, a-bad.")
    assert reason in last
    assert "Traceback" not in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(("modality", "kind", "reason"), CASES)
def test_among_good_items_it_is_listed(workshop, tmp_path, modality, kind, reason):
    folder = folder_of(workshop, tmp_path / "in", modality, kind, good=3)
    out = tmp_path / "out.h5"
    spec = workshop.specs[SPACES[modality]]
    result = mcr("extract", folder, "-e", spec, "-m", modality, "-o", out)
    assert result.exit_code == 3
    assert len(Memory(out)) == 3
    (line,) = (tmp_path / "out.failures.jsonl").read_text().splitlines()
    failure = json.loads(line)
    assert failure["id"] == f"a-bad.{KINDS[modality][1]}"
    assert failure["reason"].startswith(reason)
    assert result.stderr.splitlines()[-1].startswith("1 items failed and are listed in ")


def test_a_sentence_without_words_is_listed(workshop, tmp_path):
    (tmp_path / "in.txt").write_text("one\n___\ntwo\n")
    out = tmp_path / "out.h5"
    arguments = ("extract", tmp_path / "in.txt", "-e", workshop.specs["sees"], "-m", "text")
    result = mcr(*arguments, "-o", out)
    assert result.exit_code == 3
    assert list(Memory(out).ids) == ["one", "two"]


def test_too_many_failures_end_the_extraction(workshop, tmp_path):
    folder = folder_of(workshop, tmp_path / "in", "image", "truncated", good=3)
    arguments = ("extract", folder, "-e", workshop.specs["sees"], "-m", "image")
    result = mcr(*arguments, "-o", tmp_path / "out.h5", "--max-failures", 0)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: 1 items failed, more than --max-failures 0; the last is a-bad")
    assert not (tmp_path / "out.h5").exists()
    again = mcr(*arguments, "-o", tmp_path / "out.h5", "--max-failures", 1)
    assert again.exit_code == 3
    assert len(Memory(tmp_path / "out.h5")) == 3


def test_a_failed_extraction_can_be_run_again_after_mending(workshop, tmp_path):
    folder = folder_of(workshop, tmp_path / "in", "image", "truncated", good=0)
    arguments = (
        "extract", folder, "-e", workshop.specs["sees"], "-m", "image", "-o", tmp_path / "out.h5"
    )  # fmt: skip
    assert mcr(*arguments).exit_code == 1
    shutil.copy(workshop.item("image", NUMBERS[0]), folder / "a-bad.png")
    assert mcr(*arguments).exit_code == 0
    assert not (tmp_path / "out.failures.jsonl").exists()


def test_a_file_that_never_ends_fails_after_its_time(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr("features.extraction.decode_pool.WARMING", 0.0)
    for number in NUMBERS[:3]:
        shutil.copy(workshop.item("image", number), tmp_path)
    os.mkfifo(tmp_path / "endless.png")  # opening it waits for somebody who writes
    names = [f"{NUMBERS[0]}.png", "endless.png", f"{NUMBERS[1]}.png", f"{NUMBERS[2]}.png"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    result = mcr(
        "extract", tmp_path / "list.txt", "-e", workshop.specs["sees"], "-m", "image",
        "-o", tmp_path / "out.h5", "--device", "cpu", "--item-timeout", 1,
    )  # fmt: skip
    assert result.exit_code == 3, result.stderr
    told = "endless.png: decoding it took longer than 1 s (--item-timeout)"
    assert told in result.stderr
    assert list(Memory(tmp_path / "out.h5").ids) == [one for one in names if "endless" not in one]


def test_a_limit_without_workers_is_refused(workshop, tmp_path):
    result = mcr(
        "extract", workshop.files / "images.csv", "-e", workshop.specs["sees"], "-m", "image",
        "-o", tmp_path / "out.h5", "--workers", 0, "--item-timeout", 2,
    )  # fmt: skip
    assert result.exit_code == 1
    assert "only in a worker process: give --workers 1 or more" in result.stderr
    assert mcr("extract", "x", "-e", "y", "-m", "image", "-o", "o.h5", "--item-timeout", -1
               ).exit_code == 2  # fmt: skip
