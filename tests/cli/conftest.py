"""A workshop for the commands: files of numbers, random encoders, and what `mcr` made of them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
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

NUMBERS = keypad.numbers("train")[5:37]
NARROW = ("--dimension", "8", "--device", "cpu")
TINY = (*NARROW, "--hidden", "16", "--epochs", "2")  # of what is trained by gradients
SMALL = (*TINY, "--preset", "published")


@pytest.fixture(scope="package", autouse=True)
def _torch_threads() -> Iterator[None]:
    """One thread, also for extraction: on a busy machine tiny batches wait long for a second."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("features.extraction.decode_batches.cpu_count", lambda: 1)
        yield


def mcr(*arguments: object) -> Any:
    """Run a command in this process, as the console script does."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> Any:
    """Run a command that must succeed."""
    result = mcr(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def answer(*arguments: object) -> Any:
    """What a command that must succeed prints with --json, all of it."""
    return json.loads(done(*arguments, "--json").stdout)


@dataclass(frozen=True)
class Workshop:
    """Where everything is.

    files: texts.csv, images.csv, sounds.csv and clouds.csv, and the folders they name.
    specs: the encoders sees (image, text), hears (audio, text) and shapes (points, text).
    """

    folder: Path
    specs: dict[str, str]

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def memory(self, name: str) -> Path:
        """text-sees, text-hears, text-shapes, images, sounds, clouds, or shared (images)."""
        return self.folder / f"{name}.h5"

    @property
    def index(self) -> Path:
        """Over `shared`."""
        return self.folder / "shared.faiss"

    @property
    def sound_bridge(self) -> Path:
        """Joins hears and sees."""
        return self.folder / "sound-bridge"

    @property
    def shape_bridge(self) -> Path:
        """Joins shapes and sees."""
        return self.folder / "shape-bridge"

    def item(self, modality: str, number: str) -> Path:
        """The file that shows `number`."""
        folder, suffix = KINDS[modality]
        return self.files / folder / f"{number}.{suffix}"


def without_results(bridge: Path, out: Path) -> Path:
    """A copy of a bridge, without what other tests have measured of it."""
    return Path(shutil.copytree(bridge, out, ignore=shutil.ignore_patterns("results")))


KINDS = {"image": ("images", "png"), "audio": ("sounds", "wav"), "points": ("clouds", "npz")}


def write_table(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_files(folder: Path) -> None:
    """Two sentences and one picture, sound and cloud of every number, with tables."""
    rng = np.random.default_rng(0)
    for name, _ in KINDS.values():
        (folder / name).mkdir(parents=True)
    for number in NUMBERS:
        picture = Image.fromarray(keypad.image(number, "train", rng))
        picture.save(folder / "images" / f"{number}.png")
        soundfile.write(
            folder / "sounds" / f"{number}.wav", keypad.sound(number, rng), keypad.SAMPLE_RATE
        )
        cloud = keypad.points(number, "train", rng)
        np.savez(folder / "clouds" / f"{number}.npz", xyz=cloud)
    for name, suffix in KINDS.values():
        rows = [[f"{name}/{n}.{suffix}", f"{name}-{n}", n, str(len(n))] for n in NUMBERS]
        write_table(folder / f"{name}.csv", ["path", "key", "number", "digits"], rows)
    sentences = [[text, n] for n in NUMBERS for text in (keypad.spoken(n), f"the number {n}")]
    write_table(folder / "texts.csv", ["text", "number"], sentences)


@pytest.fixture(scope="package")
def workshop(tmp_path_factory: pytest.TempPathFactory, make_encoder) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    encoders = {
        "sees": make_encoder("image", "text", name="sees", seed=1, dimension=12),
        "hears": make_encoder("audio", "text", name="hears", seed=2, dimension=10),
        "shapes": make_encoder("points", "text", name="shapes", seed=3, dimension=8),
    }
    shop = Workshop(folder, {name: one.description.spec for name, one in encoders.items()})
    write_files(shop.files)
    sources = [("text", space, "texts", f"text-{space}") for space in encoders]
    sources += [
        ("image", "sees", "images", "images"),
        ("audio", "hears", "sounds", "sounds"),
        ("points", "shapes", "clouds", "clouds"),
    ]
    for modality, space, table, name in sources:
        done(
            "extract", shop.files / f"{table}.csv", "-e", shop.specs[space], "-m", modality,
            "-o", shop.memory(name), "--label-column", "number", "--device", "cpu",
            *(() if modality == "text" else ("--id-column", "key")),
        )  # fmt: skip
    for bridge, space, leaf in (
        (shop.sound_bridge, "hears", "sounds"),
        (shop.shape_bridge, "shapes", "clouds"),
    ):
        done(
            "train", "--hub", shop.memory(f"text-{space}"), "--hub", shop.memory("text-sees"),
            "--leaf", shop.memory(leaf), "--leaf", shop.memory("images"), "-o", bridge, *SMALL,
        )  # fmt: skip
    done("project", shop.memory("images"), "-b", shop.sound_bridge, "-o", shop.memory("shared"))
    done("index", shop.memory("shared"))
    return shop
