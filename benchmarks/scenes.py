"""Larger pictures with two keypad numbers, and the mini encoder sliding over them.

Training pictures show training numbers; nobody says what they show, nor where. Test pictures show
two numbers that nothing was trained on, one of which a sound of the demo dials.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from bridge.artefact import Bridge
from bridge.evaluation.picture_maps import LocalMaps
from features import keypad
from features.datasets import read_annotations
from features.datasets.annotations import Annotations
from features.encoders import EncoderDescription, ItemInput, LocalEmbeddings
from features.encoders.mini.encoder import load_builtin_clip
from features.encoders.mini.inputs import MiniInput
from features.extraction.extract import extract
from features.extraction.sources import read_source
from features.memories.memory import Memory
from features.progress import Progress
from features.space import Modality, Space

HEIGHT, WIDTH = 64, 128  # pixels
STRIDE = 16  # pixels between windows, and of a part's sides
GRID = (HEIGHT // STRIDE, WIDTH // STRIDE)
INK = 90  # grey level that noise does not reach
BOXES = "boxes.csv"
Edges = tuple[int, int, int, int]  # left, top, right, bottom; the latter two past the end


@dataclass(frozen=True)
class TestScenes:
    """Pictures with the embeddings of their parts, and where in them the sounds' numbers are."""

    memory: Memory
    boxes: Annotations

    def maps(self, bridge: Bridge) -> LocalMaps:
        """Their maps by a bridge."""
        return LocalMaps(self.memory, bridge, grid=GRID, fit="squash", trust_encoder=True)


def training_scenes(folder: Path, count: int, progress: Progress) -> Memory:
    """Pictures of training numbers, each in turn with a random other one."""
    numbers, rng = keypad.numbers("train"), np.random.default_rng(0)
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for row in range(count):
            picture, _ = draw(numbers[row % len(numbers)], str(rng.choice(numbers)), "train", rng)
            Image.fromarray(picture).save(folder / f"{row:05d}.png")
        (folder / "done").touch()
    return _embedded(folder, progress)


def test_scenes(
    folder: Path, sounds: Memory, count: int, seed: int, progress: Progress
) -> TestScenes:
    """Pictures of a number that a random one of the sounds dials, and of another number.

    sounds: labelled with their numbers.
    """
    rng, labels = np.random.default_rng(seed), list(sounds.labels or ())
    if not (folder / BOXES).exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows: list[list[object]] = []
        for row in range(count):
            sound = int(rng.integers(len(labels)))
            others = sorted(set(labels) - {labels[sound]})
            picture, box = draw(labels[sound], str(rng.choice(others)), "test", rng)
            Image.fromarray(picture).save(folder / f"{row:05d}.png")
            shares = np.array(box) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
            rows.append([f"{row:05d}", sounds.ids[sound], *shares.tolist()])
        with (folder / BOXES).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([["image", "audio", "left", "top", "right", "bottom"], *rows])
    return TestScenes(_embedded(folder, progress), read_annotations("boxes", folder / BOXES))


def draw(
    wanted: str, other: str, split: keypad.Split, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Edges]:
    """One number in the left half, one in the right, either first; the box of the wanted one."""
    canvas = np.clip(rng.normal(0, 6, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8)
    tall, wide = keypad.IMAGE_HEIGHT, keypad.IMAGE_WIDTH
    sides = rng.permutation([0, WIDTH - wide])
    tops = rng.integers(0, HEIGHT - tall + 1, 2)
    boxes = []
    for number, left, top in zip((wanted, other), sides, tops, strict=True):
        drawn = keypad.image(number, split, rng)
        window = canvas[top : top + tall, left : left + wide]
        np.maximum(window, drawn, out=window)
        rows, columns = np.nonzero(drawn > INK)
        boxes.append((
            int(left + columns.min()), int(top + rows.min()),
            int(left + columns.max()) + 1, int(top + rows.max()) + 1,
        ))  # fmt: skip
    return canvas, boxes[0]


def _embedded(folder: Path, progress: Progress) -> Memory:
    source = read_source(str(folder), "image")
    out = folder.parent / f"{folder.name}.h5"
    encoder = SlidingClip()
    return extract(
        source, encoder, "image", out, local=True, batch_size=30, workers=0, resume=True,
        progress=progress,
    ).memory  # fmt: skip


class SlidingClip:
    """The image tower of mini-clip on windows of its own size, over larger pictures.

    A picture's embedding is the mean of its windows'; a part's, of 16 x 16 pixels, the mean of the
    patches that show it in any window. Both are made unit again.
    """

    def __init__(self) -> None:
        self._clip = load_builtin_clip("", device="cpu", precision="fp32")
        config = self._clip.config
        self._tall, self._wide = config.image_height, config.image_width
        self._larger = replace(config, image_height=HEIGHT, image_width=WIDTH)
        self.corners = [
            (top, left)
            for top in range(0, HEIGHT - self._tall + 1, STRIDE)
            for left in range(0, WIDTH - self._wide + 1, STRIDE)
        ]

    @property
    def space(self) -> Space:
        """mini-clip's."""
        return self._clip.space

    @property
    def description(self) -> EncoderDescription:
        """mini-clip's, with the size of the pictures and the stride."""
        small = self._clip.description
        larger = {"image_height": HEIGHT, "image_width": WIDTH, "stride": STRIDE}
        return replace(small, preprocessing={**small.preprocessing, **larger})

    def input(self, modality: Modality) -> ItemInput:
        """Grey levels of a whole picture."""
        found: Callable[[Any], NDArray[Any]] = MiniInput(self._larger, modality)
        return found

    def encode(self, batch: Sequence[NDArray[Any]], modality: Modality) -> torch.Tensor:
        """Embeddings of whole pictures."""
        return self.encode_local(batch, modality).pooled

    def local_length(self, modality: Modality) -> int:
        """Parts of 16 x 16 pixels."""
        return GRID[0] * GRID[1] if modality == "image" else 0

    def encode_local(self, batch: Sequence[NDArray[Any]], modality: Modality) -> LocalEmbeddings:
        """Embeddings of whole pictures and of their parts."""
        windows = [
            picture[top : top + self._tall, left : left + self._wide]
            for picture in batch
            for top, left in self.corners
        ]
        found = self._clip.encode_local(windows, modality)
        shape = (len(batch), len(self.corners))
        tall, wide = self._tall // STRIDE, self._wide // STRIDE
        side = round((found.local.shape[1] / (tall * wide)) ** 0.5)  # patches of a part
        parts = found.local.view(*shape, tall, side, wide, side, -1).mean(dim=(3, 5))
        total = torch.zeros(len(batch), *GRID, parts.shape[-1])
        for number, (top, left) in enumerate(self.corners):
            row, column = top // STRIDE, left // STRIDE
            total[:, row : row + tall, column : column + wide] += parts[:, number]
        local = F.normalize(total.flatten(1, 2), dim=-1)
        whole = F.normalize(found.pooled.view(*shape, -1).mean(dim=1), dim=-1)
        return LocalEmbeddings(whole, local, torch.ones(local.shape[:2], dtype=torch.bool))
