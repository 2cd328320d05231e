"""Embeddings of another encoder: refused side by side, trusted when told, noted when unknown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.encoders import load_encoder
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.cli.conftest import NUMBERS, Workshop, done, mcr
from tests.cli.refusals import sentence_of, train


@pytest.fixture(scope="module")
def other(workshop: Workshop, make_encoder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images.h5` and `weights.txt` of an encoder of the space sees with other weights."""
    folder = tmp_path_factory.mktemp("other")
    encoder = make_encoder("image", "text", name="sees", seed=9, dimension=12)
    (folder / "spec.txt").write_text(encoder.description.spec)
    done(
        "extract", workshop.files / "images.csv", "-e", encoder.description.spec, "-m", "image",
        "-o", folder / "images.h5", "--id-column", "key", "--label-column", "number",
        "--device", "cpu",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def unknown(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images as somebody saved them who did not say how they were embedded."""
    images = Memory(workshop.memory("images"))
    path = tmp_path_factory.mktemp("unknown") / "images.h5"
    save_memory(path, np.array(images.embeddings), list(images.ids), space="sees",
                modality="image", labels=list(images.labels or ()))  # fmt: skip
    return path


# What takes the images, as a command of its memory: what came from where it compares.
COMMANDS: dict[str, tuple[Callable[[Workshop, Path, Path], tuple[object, ...]], str]] = {
    "project": (
        lambda w, m, t: ("project", m, "-b", w.sound_bridge, "-o", t / "out.h5"),
        "the space sees of the bridge sound-bridge",
    ),
    "eval": (
        lambda w, m, _: ("eval", "-b", w.sound_bridge, "-q", w.memory("sounds"), "-g", m),
        "the space sees of the bridge sound-bridge",
    ),
    "query": (
        lambda w, m, _: (
            "query", w.item("audio", NUMBERS[3]), "-b", w.sound_bridge, "--memory", m, "-k", 3
        ),
        "the space sees of the bridge sound-bridge",
    ),
    "train": (lambda w, m, t: train(w, t, "--leaf", m), "text-sees.h5"),
}  # fmt: skip


def table(stderr: str) -> dict[str, str]:
    """The rows of two descriptions side by side: name -> the rest of the row."""
    rows = [line for line in stderr.splitlines() if line.startswith("  ")]
    return {line.split()[0]: line for line in rows if not line.startswith("     ")}


@pytest.mark.parametrize("command", COMMANDS)
def test_another_encoder_is_refused_side_by_side(workshop, other, tmp_path, command):
    make, partner = COMMANDS[command]
    result = mcr(*make(workshop, other / "images.h5", tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    sentence = sentence_of(result.stderr)
    assert partner in sentence
    assert f"{other / 'images.h5'}" in sentence
    assert "have encoders with other weights: " in sentence
    assert "--trust-encoder" in sentence
    rows = table(result.stderr)
    assert rows["weights"].endswith("  <- differs")
    known = Memory(workshop.memory("images")).header.encoder["weights"]
    found = Memory(other / "images.h5").header.encoder["weights"]
    assert {known, found} <= set(rows["weights"].split())
    assert "differs" not in rows["preprocessing.image_height"] + rows["name"] + rows["precision"]
    assert not (tmp_path / "out.h5").exists()
    assert not (tmp_path / "bridge").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_another_encoder_is_taken_when_told(workshop, other, tmp_path, command):
    make, _ = COMMANDS[command]
    result = done(*make(workshop, other / "images.h5", tmp_path), "--trust-encoder")
    assert result.stdout
    assert "note:" not in result.stderr
    assert "differs" not in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_encoder_is_noted(workshop, unknown, tmp_path, command):
    make, partner = COMMANDS[command]
    result = done(*make(workshop, unknown, tmp_path))
    (noted,) = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert noted.startswith("note: which weights made the embeddings of ")
    assert str(unknown) in noted
    assert partner in noted
    assert noted.endswith(" is taken on trust")
    assert "note" not in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_encoder_needs_no_words(workshop, tmp_path, command):
    make, _ = COMMANDS[command]
    result = done(*make(workshop, workshop.memory("images"), tmp_path))
    assert "note:" not in result.stderr


def test_a_query_by_another_encoder(workshop, other):
    spec = (other / "spec.txt").read_text()
    arguments = ("query", workshop.item("image", NUMBERS[7]), "-i", workshop.index, "-b",
                 workshop.sound_bridge, "-k", 1, "--encoder", f"sees={spec}")  # fmt: skip
    result = mcr(*arguments)
    assert result.exit_code == 1
    assert sentence_of(result.stderr) == (
        "the query and the space sees have encoders with other weights: name the encoder that made "
        "the memories with --encoder sees=SPEC, or pass --trust-encoder (trust_encoder=True)"
    )
    header = next(line for line in result.stderr.splitlines() if line.startswith("     "))
    assert header.split() == ["the", "space", "sees", "the", "query"]
    hit = done(*arguments, "--trust-encoder").stdout.split("\t")
    encoder = load_encoder(spec, device="cpu")
    assert encoder.description.weights in table(result.stderr)["weights"]
    assert float(hit[0]) < 0.999  # it is not found as itself by other weights
    itself = done(*arguments[:-2]).stdout.split("\t")
    assert float(itself[0]) > 0.999


def test_a_query_in_a_memory_of_an_unknown_encoder(workshop, unknown):
    spec = workshop.specs["sees"]
    picture = workshop.item("image", NUMBERS[7])
    result = done("query", picture, "--memory", unknown, "--encoder", f"sees={spec}", "-k", 1)
    assert result.stdout.split("\t")[1] == f"images-{NUMBERS[7]}"
    assert result.stderr == (
        "note: which weights made the embeddings of the space sees is not recorded: that the "
        "space sees and the query have one encoder is taken on trust\n"
    )
