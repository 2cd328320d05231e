"""The whole way, by the commands that users type: from files to answers across modalities.

Sounds meet pictures only through sentences, on a few dozen keypad numbers and the built-in
encoders; the questions are about numbers that neither encoder nor bridge has seen.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from features import keypad

TRAIN = keypad.numbers("train")[::8]
TEST = [number for number in keypad.numbers("test") if len(number) == 3][::5]
ENCODERS = {"image": "mini-clip", "audio": "mini-clap"}


@pytest.fixture(scope="module", autouse=True)
def _torch_threads() -> None:
    torch.set_num_threads(1)  # tiny matrices; on a busy machine more threads wait for each other


def mcr(*arguments: object) -> Any:
    """The JSON answer of a command that must succeed."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def write_data(folder: Path) -> None:
    """texts.csv, image.csv and audio.csv; unseen numbers in handwriting never seen either."""
    rng = np.random.default_rng(3)
    tables: dict[str, list[list[str]]] = {"image": [], "audio": []}
    splits: list[tuple[keypad.Split, list[str]]] = [("train", TRAIN), ("test", TEST)]
    for split, numbers in splits:
        for number in numbers:
            Image.fromarray(keypad.image(number, split, rng)).save(folder / f"{number}.png")
            soundfile.write(folder / f"{number}.wav", keypad.sound(number, rng), keypad.SAMPLE_RATE)
            tables["image"].append([f"{number}.png", number, split])
            tables["audio"].append([f"{number}.wav", number, split])
    for modality, rows in tables.items():
        write_table(folder / f"{modality}.csv", [["path", "number", "split"], *rows])
    sentences = [[one, n] for n in TRAIN for one in (f"the number {n}", keypad.spoken(n))]
    write_table(folder / "texts.csv", [["text", "number"], *sentences])


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def test_from_files_to_answers_across_modalities(tmp_path):
    write_data(tmp_path)

    for encoder in ENCODERS.values():
        told = mcr(
            "extract", tmp_path / "texts.csv", "-e", encoder, "-m", "text",
            "-o", tmp_path / f"text-{encoder}.h5",
        )  # fmt: skip
        assert (told["items"], told["space"]) == (2 * len(TRAIN), encoder)
    for modality, encoder in ENCODERS.items():
        for split, numbers in (("train", TRAIN), ("test", TEST)):
            told = mcr(
                "extract", tmp_path / f"{modality}.csv", "-e", encoder, "-m", modality,
                "-o", tmp_path / f"{modality}-{split}.h5", "--where", f"split={split}",
                "--label-column", "number",
            )  # fmt: skip
            assert (told["items"], told["failures"]) == (len(numbers), 0)

    bridge = tmp_path / "bridge"
    about = mcr(
        "train", "--hub", tmp_path / "text-mini-clap.h5", "--hub", tmp_path / "text-mini-clip.h5",
        "--leaf", tmp_path / "audio-train.h5", "--leaf", tmp_path / "image-train.h5",
        "-o", bridge, "--dimension", 64, "--hidden", 128, "--epochs", 40,
    )  # fmt: skip
    assert [one["role"] for one in about["memories"]] == ["hub", "hub", "leaf", "leaf"]
    assert about["metrics"]["held_out_r1"] > 0.3
    weights = [share for name, share in about["metrics"].items() if name.startswith("weight of")]
    assert sum(weights) == pytest.approx(1)  # the default is a mixture

    shared = tmp_path / "image-shared.h5"
    told = mcr("project", tmp_path / "image-test.h5", "-b", bridge, "-o", shared)
    assert (told["space"], told["dimension"]) == (
        "bridge",
        about["spaces"][0]["projector"]["outputs"],
    )
    index = mcr("index", shared)
    assert index["recall@10"] == 1.0

    figures = mcr(
        "eval", "-b", bridge, "-q", tmp_path / "audio-test.h5", "-g", tmp_path / "image-test.h5"
    )  # fmt: skip
    chance = 1 / len(TEST)
    assert figures["chance"] == pytest.approx(chance)
    assert figures["forward"]["recall"]["1"] > 8 * chance
    assert figures["backward"]["recall"]["1"] > 8 * chance
    assert figures["forward"]["median_rank"] < len(TEST) / 5

    # A query by file finds what the evaluation says: the same share of right first answers.
    right = 0
    for number in TEST[:10]:
        found = mcr(
            "query", tmp_path / f"{number}.wav", "-b", bridge, "-i", index["index"], "-k", 3
        )
        assert found["modality"] == "audio"
        assert [hit["score"] for hit in found["hits"]] == sorted(
            (hit["score"] for hit in found["hits"]), reverse=True
        )
        right += any(hit["label"] == number for hit in found["hits"])
    assert right >= 4

    for path, kind in ((bridge, "bridge"), (shared, "memory"), (index["index"], "index")):
        assert mcr("info", path)["kind"] == kind
