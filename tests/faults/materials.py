"""Small inputs for every stage, made once a process and only read from then on.

Numbers as pictures and sentences, encoders with random weights, memories of random unit rows, and
a bridge between them. One picture cannot be read, and one row to import is zero: what fails must
be listed after a fault as well.
"""

from __future__ import annotations

import atexit
import csv
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bridge
from features import keypad
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import load_file, save_mini
from features.encoders.mini.towers import Tower
from features.extraction.extract import extract
from features.extraction.shards import Shard
from features.extraction.sources import read_source
from features.memories.memory import Memory
from features.memories.writing import save_memory

PICTURES, SHARDS = 96, 3
ROWS, DIMENSION = 240, 8
MANY = 8320  # hub items and leaf items: just enough scores for pairs to be kept
_TINY = {
    "dimension": 16, "width": 16, "layers": 1, "heads": 2, "image_height": 16, "image_width": 32,
    "words": 8, "vocabulary": 64,
}  # fmt: skip


@cache
def materials() -> Path:
    """The folder that all are in, removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="fault-materials-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    encoder = _encoder(folder / "encoder.safetensors")
    rng = np.random.default_rng(0)
    _pictures(folder, rng)
    _memories(folder, rng)
    for number in range(1, SHARDS + 1):
        extract(
            read_source(str(folder / "pictures"), "image"),
            load_file(str(encoder), device="cpu", spec=f"mini:{encoder}"),
            "image",
            folder / "shards" / "pictures.h5",
            batch_size=4,
            workers=0,
            shard=Shard(number, SHARDS),
        )
    rows = rng.standard_normal((20_000, DIMENSION)).astype(np.float32)
    rows[777] = 0
    np.save(folder / "rows.npy", rows)
    memories = {name: Memory(folder / f"{name}.h5") for name in ("a", "b", "leaf-a", "leaf-b")}
    bridge.train(
        [memories["a"], memories["b"]],
        [memories["leaf-a"], memories["leaf-b"]],
        folder / "bridge",
        bridge.load_settings(overrides={"method": "procrustes", "dimension": DIMENSION}),
        device="cpu",
    )
    return folder


def _encoder(path: Path) -> Path:
    config = MiniConfig("tiny", ("image", "text"), **_TINY)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        towers = {modality: Tower(modality, config) for modality in config.modalities}
    save_mini(path, config, towers)
    return path


def _pictures(folder: Path, rng: np.random.Generator) -> None:
    """Pictures and their sentences, and a table of the pairs; one picture is no picture."""
    (folder / "pictures").mkdir()
    numbers = [str(one) for one in rng.choice(keypad.numbers("train"), PICTURES, replace=False)]
    table = []
    for place, number in enumerate(numbers):
        path = folder / "pictures" / f"{place:03d}.png"
        Image.fromarray(keypad.image(number, "train", rng)).save(path)
        table.append([path.name, f"number {number}"])
    (folder / "pictures" / "050.png").write_bytes(b"no picture")
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        rows = ([f"pictures/{name}", text] for name, text in table if name != "050.png")
        csv.writer(file).writerows([["path", "text"], *rows])


def _memories(folder: Path, rng: np.random.Generator) -> None:
    """Hubs `a` and `b` of the same sentences, leaves of either space, and all of them large."""
    for prefix, count in (("", ROWS), ("many-", MANY)):
        for name, space, modality in (
            ("a", "a", "text"), ("b", "b", "text"), ("leaf-a", "a", "image"),
            ("leaf-b", "b", "audio"),
        ):  # fmt: skip
            rows = rng.standard_normal((count, DIMENSION)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            save_memory(
                folder / f"{prefix}{name}.h5", rows, list(range(count)), space=space,
                modality=modality, labels=[one % 7 for one in range(count)],
            )  # fmt: skip
