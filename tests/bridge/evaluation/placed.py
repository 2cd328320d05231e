"""Keypad numbers placed in larger pictures, where it is known what is where.

A picture is a grid of cells of 32 x 64 pixels, one of which shows a number. Its local embeddings
say exactly what each cell shows: a direction for each number, and one for empty paper.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from features import keypad
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import save_memory, write_memory

GRID = (4, 4)
NUMBERS = ("7", "42", "365", "9")
CELLS = (0, 5, 10, 15)  # where each number is
SQUASH = {
    "weights": "exact",
    "preprocessing": {"image": {"size": [64, 64], "resize_mode": "squash"}},
}


def cell_box(cell: int, rows: int = 1, columns: int = 1) -> tuple[float, float, float, float]:
    """The edges of a cell, or of a block of cells that begins with it."""
    row, column = divmod(cell, GRID[1])
    return column / 4, row / 4, (column + columns) / 4, (row + rows) / 4


def write_pictures(folder: Path) -> None:
    """A picture of every number, in its cell, and the number dialled."""
    import soundfile

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number, cell in zip(NUMBERS, CELLS, strict=True):
        whole = np.zeros((32 * GRID[0], 64 * GRID[1]), dtype=np.uint8)
        row, column = divmod(cell, GRID[1])
        shown = keypad.image(number, "test", rng)
        whole[32 * row : 32 * row + 32, 64 * column : 64 * column + 64] = shown
        Image.fromarray(whole).save(folder / f"{number}.png")
        soundfile.write(folder / f"{number}.wav", keypad.sound(number, rng), keypad.SAMPLE_RATE)


def write_boxes(
    path: Path, boxes: dict[str, list[tuple[float, float, float, float]]], audio: dict[str, str]
) -> Path:
    """A table of boxes; pictures with none are silent. audio: other than the picture's own."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "audio", "left", "top", "right", "bottom"])
        for image, marked in boxes.items():
            for box in marked or [("", "", "", "")]:
                writer.writerow([image, audio.get(image, image), *box])
    return path


def exact_pictures(path: Path, *, local: bool = True, swapped: bool = False) -> Memory:
    """Pictures whose cells are embedded exactly, or, `swapped`, as the next number's."""
    width = len(NUMBERS) + 1
    cells = np.zeros((len(NUMBERS), 16, width), dtype=np.float32)
    cells[:, :, -1] = 1  # empty paper
    for i, cell in enumerate(CELLS):
        cells[i, cell] = np.eye(width)[(i + swapped) % len(NUMBERS)]
    pooled = cells.mean(axis=1)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    header = MemoryHeader(
        "exact", "image", width, "float32", SQUASH, local_length=16 if local else 0
    )
    masks = np.ones((len(NUMBERS), 16), dtype=np.uint8)
    parts = [(cells, masks)] if local else []
    return write_memory(path, header, Columns(list(NUMBERS)), [pooled], local=parts)


def exact_sounds(path: Path, *, clearness: float = 1.0) -> Memory:
    """Sounds that point at their number, the later ones a little towards empty paper."""
    rows = np.eye(len(NUMBERS) + 1, dtype=np.float32)[: len(NUMBERS)]
    rows *= clearness
    rows[:, -1] = np.sqrt(1 - clearness**2)
    return save_memory(path, rows, list(NUMBERS), space="exact", modality="audio", encoder=SQUASH)
