"""Pseudo pairs beside the leaf memories: made, told, left out and removed from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bridge import tuning
from bridge.pseudo_pairs import cache as pseudo_pair_cache
from tests.cli.conftest import SMALL, Workshop, answer, done


@pytest.fixture
def memories(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Options for memories of this test's own, of which all pairs are worth keeping."""
    monkeypatch.setattr(pseudo_pair_cache, "LEAST_SCORES", 1)
    for name in ("sounds", "images"):
        shutil.copy(workshop.memory(name), tmp_path / f"{name}.h5")
    return [
        "--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"),
        "--leaf", tmp_path / "sounds.h5", "--leaf", tmp_path / "images.h5",
    ]  # fmt: skip


def pairs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pairs"))


def told(memory: Path) -> Any:
    return answer("info", memory)["pseudo_pairs"]


def test_pairs_are_kept_and_told_and_may_be_removed(memories, tmp_path):
    sounds = tmp_path / "sounds.h5"
    assert told(sounds) is None
    done("train", *memories, "-o", tmp_path / "one", *SMALL)
    assert pairs(tmp_path) == ["images.h5.pairs", "sounds.h5.pairs"]
    found = told(sounds)
    assert found.pop("megabytes") > 0
    assert found == {
        "folder": f"{sounds}.pairs",
        "sets": 1,
        "note": "computed again where it is removed",
    }
    assert f"folder: {sounds}.pairs" in done("info", sounds).stdout
    shutil.rmtree(f"{sounds}.pairs")
    done("train", *memories, "-o", tmp_path / "two", *SMALL)
    assert (tmp_path / "one" / "bridge.safetensors").read_bytes() == (
        tmp_path / "two" / "bridge.safetensors"
    ).read_bytes()
    assert told(sounds)["sets"] == 1


def test_no_cache_leaves_nothing(memories, workshop, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "NOISE_VARIANCES", (0.0,))
    monkeypatch.setattr(tuning, "TEMPERATURES", (0.05,))
    done("train", *memories, "-o", tmp_path / "one", *SMALL, "--no-cache")
    done("tune", *memories, "-o", tmp_path / "t.toml", *SMALL[:-2], "--epochs", 1, "--no-cache")
    done(
        "ablate", *memories, "-o", tmp_path / "ablation", *SMALL[:-2], "--seeds", 2, "--no-cache",
        "--query", workshop.memory("sounds"), "--gallery", workshop.memory("images"),
    )  # fmt: skip
    assert pairs(tmp_path) == []


def test_an_ablation_retrieves_once_a_seed(memories, workshop, tmp_path):
    done(
        "ablate", *memories, "-o", tmp_path / "ablation", *SMALL[:-2], "--seeds", 2,
        "--query", workshop.memory("sounds"), "--gallery", workshop.memory("images"),
    )  # fmt: skip
    assert told(tmp_path / "sounds.h5")["sets"] == 2


def test_a_damaged_file_is_told_in_a_line(memories, tmp_path):
    done("train", *memories, "-o", tmp_path / "one", *SMALL)
    (file,) = (tmp_path / "sounds.h5.pairs").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    result = done("train", *memories, "-o", tmp_path / "two", *SMALL)
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith(f"note: {file} cannot be read (")
    assert notes[0].endswith("): its pairs are made again")
