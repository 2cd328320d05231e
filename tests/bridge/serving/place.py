"""Something to serve: files, memories, an index and a bridge; and a server process of its own."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

from bridge.artefact import Bridge, BridgedSpace, make_projector
from bridge.config import TrainSettings
from bridge.projection import project_memory
from features import keypad
from features.encoders import load_encoder
from features.extraction.extract import extract
from features.extraction.sources import read_source
from features.memories.memory import Memory
from features.search.building import build_index
from features.space import Modality

ROOT = Path(__file__).parents[3]
NUMBERS = keypad.numbers("test")[5:29]
SETTINGS = TrainSettings(dimension=32, hidden=32, seed=0)


@dataclass(frozen=True)
class Place:
    """pictures: an index in the bridge's space. sounds, texts, clouds: memories in their own."""

    folder: Path

    @property
    def bridge(self) -> Path:
        return self.folder / "joined"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures.faiss"

    def memory(self, name: str) -> Path:
        return self.folder / f"{name}.h5"

    def file(self, name: str, number: str) -> Path:
        suffix = {"images": "png", "sounds": "wav", "clouds": "npz"}[name]
        return self.folder / "files" / name / f"{number}.{suffix}"

    @property
    def temporary(self) -> Path:
        """For temporary files of a server."""
        return self.folder / "temporary"

    @property
    def arguments(self) -> list[str]:
        """What `mcr serve` is given."""
        memories = [self.memory(name) for name in ("sounds", "texts", "clouds")]
        given = ["--bridge", self.bridge, "--index", self.pictures]
        given += [part for memory in memories for part in ("--memory", memory)]
        return [str(part) for part in given]


def make_place(folder: Path) -> Place:
    """Two dozen numbers as pictures, sounds, clouds and sentences, with the built-in encoders."""
    rng = np.random.default_rng(0)
    files = folder / "files"
    (folder / "temporary").mkdir()
    for name in ("images", "sounds", "clouds"):
        (files / name).mkdir(parents=True)
    for number in NUMBERS:
        picture = Image.fromarray(keypad.image(number, "test", rng))
        picture.save(files / "images" / f"{number}.png")
        sound = files / "sounds" / f"{number}.wav"
        soundfile.write(sound, keypad.sound(number, rng), keypad.SAMPLE_RATE)
        np.savez(files / "clouds" / f"{number}.npz", xyz=keypad.points(number, "test", rng))
    made = [
        _extract(folder, "pictures-own", "images/{}.png", "mini-clip", "image"),
        _extract(folder, "sounds", "sounds/{}.wav", "mini-clap", "audio"),
        _extract(folder, "clouds", "clouds/{}.npz", "mini-ulip", "points"),
        _extract(folder, "texts", "the number {}", "mini-clip", "text"),
    ]
    generator = torch.Generator().manual_seed(0)
    spaces = [
        BridgedSpace(one.space, one.dimension, (one.modality, "text"), one.header.encoder)
        for one in made[:2]
    ]
    projectors = {s.name: make_projector(s.dimension, SETTINGS, generator) for s in spaces}
    joined = Bridge("joined", spaces, projectors, SETTINGS)
    joined.save(folder / "joined")
    project_memory(joined, made[0], folder / "pictures.h5")
    build_index(Memory(folder / "pictures.h5"), folder / "pictures.faiss")
    return Place(folder)


def _extract(folder: Path, name: str, item: str, space: str, modality: Modality) -> Memory:
    table = folder / "files" / f"{name}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = [[item.format(n), f"{name}/{n}", n, len(n), _parity(n)] for n in NUMBERS]
        csv.writer(file).writerows([["item", "key", "number", "digits", "parity"], *rows])
    source = read_source(
        str(table), modality, column="item", id_column="key", label_column="number"
    )
    encoder = load_encoder(space, device="cpu")
    return extract(source, encoder, modality, folder / f"{name}.h5").memory


def _parity(number: str) -> str:
    return "odd" if int(number) % 2 else "even"


@dataclass(frozen=True)
class Running:
    """A server that answers at `address`."""

    address: str
    process: subprocess.Popen[str]

    def resident(self) -> int:
        """Bytes of RAM that the process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def serving(*arguments: object, temporary: Path | None = None) -> Iterator[Running]:
    """`mcr serve` with these arguments on a port that is free; ended with Ctrl-C.

    temporary: where it puts its temporary files.
    """
    command = ["-c", "from cli.main import run; run()", "serve", "--port", "0", "--device", "cpu"]
    with started(*command, *arguments, temporary=temporary) as running:
        yield running


@contextmanager
def started(*arguments: object, temporary: Path | None = None) -> Iterator[Running]:
    """A Python process that says its address first; ended with Ctrl-C."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        found = re.match(r"http://\S+", process.stdout.readline())
        assert found, process.communicate(timeout=10)
        yield Running(found.group(), process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
