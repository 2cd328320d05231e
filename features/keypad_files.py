"""Keypad numbers as files: folders of pictures, sounds and point clouds, and their tables.

Every table has the columns `path` (or `text`), `key`, `number`, `digits` and `split`. Items
of different modalities with the same key show the same number, so that keys also make true
pairs, for the upper bound that needs them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features import keypad
from features.files import replacing
from features.progress import SILENT, Progress

if TYPE_CHECKING:
    from numpy.random import Generator

TRAIN_SAMPLES, TEST_SAMPLES = 3, 4  # of every number, in every modality but text
SENTENCES = 4  # of every number
SUFFIXES = {"images": "png", "sounds": "wav", "points": "npz"}
COLUMNS = ("key", "number", "digits", "split")


@dataclass(frozen=True)
class _Sample:
    number: str
    split: keypad.Split
    place: int

    @property
    def key(self) -> str:
        return f"{self.number}-{self.place}"

    @property
    def row(self) -> list[str]:
        return [self.key, self.number, str(len(self.number)), self.split]


def write_keypad_numbers(folder: Path, *, seed: int = 0, progress: Progress = SILENT) -> None:
    """Write images.csv, sounds.csv, points.csv and texts.csv and what they name.

    A table that exists is kept, so an interrupted run is continued.
    """
    rngs = np.random.default_rng(seed).spawn(4)
    makers: dict[str, Callable[[_Sample, Path, Generator], None]] = {
        "images": _write_image,
        "sounds": _write_sound,
        "points": _write_points,
    }
    for (name, write), rng in zip(makers.items(), rngs, strict=False):
        suffix = SUFFIXES[name]
        table = folder / f"{name}.csv"
        if table.exists():
            continue
        samples = list(_samples(TRAIN_SAMPLES, TEST_SAMPLES))
        (folder / name).mkdir(parents=True, exist_ok=True)
        with progress.task(f"make {name}", len(samples)) as advance:
            for sample in samples:
                write(sample, folder / name / f"{sample.key}.{suffix}", rng)
                advance(1)
        _write_table(table, "path", _rows(samples, name, suffix))
    if not (folder / "texts.csv").exists():
        _write_table(folder / "texts.csv", "text", _sentences(rngs[3]))


def write_keypad_tables(folder: Path, *, seed: int = 0) -> None:
    """Write the tables alone, without the files that they name."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = list(_samples(TRAIN_SAMPLES, TEST_SAMPLES))
    for name, suffix in SUFFIXES.items():
        _write_table(folder / f"{name}.csv", "path", _rows(samples, name, suffix))
    rng = np.random.default_rng(seed).spawn(4)[3]
    _write_table(folder / "texts.csv", "text", _sentences(rng))


def _rows(samples: Sequence[_Sample], name: str, suffix: str) -> list[list[str]]:
    return [[f"{name}/{sample.key}.{suffix}", *sample.row] for sample in samples]


def _samples(train: int, test: int) -> Iterator[_Sample]:
    splits: tuple[tuple[keypad.Split, int], ...] = (("train", train), ("test", test))
    for split, count in splits:
        for number in keypad.numbers(split):
            yield from (_Sample(number, split, place) for place in range(count))


def _sentences(rng: Generator) -> list[list[str]]:
    """Different sentences for every number."""
    rows = []
    for sample in _samples(SENTENCES, SENTENCES):
        if sample.place == 0:
            chosen = rng.permutation(keypad.sentences(sample.number))
        rows.append([str(chosen[sample.place]), *sample.row])
    return rows


def _write_image(sample: _Sample, path: Path, rng: Generator) -> None:
    from PIL import Image

    Image.fromarray(keypad.image(sample.number, sample.split, rng)).save(path)


def _write_sound(sample: _Sample, path: Path, rng: Generator) -> None:
    import soundfile

    soundfile.write(path, keypad.sound(sample.number, rng), keypad.SAMPLE_RATE)


def _write_points(sample: _Sample, path: Path, rng: Generator) -> None:
    np.savez(path, xyz=keypad.points(sample.number, sample.split, rng))


def _write_table(path: Path, first: str, rows: list[list[str]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([first, *COLUMNS])
        writer.writerows(rows)
