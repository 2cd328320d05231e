"""Crops: pictures cut into windows, so that encoders of whole pictures can say where things are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from features.errors import ItemError, UserError
from features.extraction.decode import read_image
from features.extraction.items import Source
from features.extraction.partial import Failure
from features.files import refuse_existing, replacing
from features.progress import SILENT, Progress

TABLE = "regions.csv"
COLUMNS = ("path", "image", "left", "top", "right", "bottom")


def cut_pictures(
    source: Source,
    folder: Path,
    *,
    grid: tuple[int, int],
    overlap: float = 0.0,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> list[Failure]:
    """Cut every picture into rows x columns windows, saved as PNG, and list them in regions.csv.

    overlap: how much of a window its neighbours have too, from 0 to below 1.
    Returns pictures that cannot be read, with the reason. Raises UserError if the table exists.
    """
    table = folder / TABLE
    refuse_existing(table, overwrite=overwrite)
    if not 0 <= overlap < 1 or min(grid) < 1:
        raise UserError(
            f"windows of {grid[0]} x {grid[1]} that overlap by {overlap} cannot be cut: give 1 x 1 "
            "or more, and an overlap from 0 to below 1"
        )
    rows: list[Sequence[str | float]] = []
    failures: list[Failure] = []
    with progress.task("cut", len(source.items)) as advance:
        for number, item in enumerate(source.items):
            try:
                picture = read_image(Path(source.load_argument(item)))
            except ItemError as error:
                failures.append(Failure(item.id, item.value, str(error)))
                advance(1)
                continue
            for place, box in enumerate(windows(grid, overlap)):
                name = Path(f"{number:06}") / f"{place:03}.png"
                pixels = pixel_box(box, picture.width, picture.height)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                picture.crop(pixels).save(folder / name)
                width, height = picture.width, picture.height
                edges = [
                    pixels[0] / width, pixels[1] / height, pixels[2] / width, pixels[3] / height
                ]  # fmt: skip
                rows.append([str(name), item.id, *edges])
            advance(1)
    if not rows:
        raise UserError(f"none of the {len(source.items)} pictures could be read: check the source")
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return failures


def windows(grid: tuple[int, int], overlap: float) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of equal windows, row by row, that cover a picture together."""
    tops, lefts = (_spans(count, overlap) for count in grid)
    return [(left, top, right, bottom) for top, bottom in tops for left, right in lefts]


def pixel_box(
    box: tuple[float, float, float, float], width: int, height: int
) -> tuple[int, int, int, int]:
    """The window in whole pixels, at least one each way."""
    left, right = _whole(box[0], box[2], width)
    top, bottom = _whole(box[1], box[3], height)
    return left, top, right, bottom


def _spans(count: int, overlap: float) -> list[tuple[float, float]]:
    size = 1 / (count - (count - 1) * overlap)
    step = size * (1 - overlap)
    return [(i * step, i * step + size) for i in range(count)]


def _whole(start: float, stop: float, pixels: int) -> tuple[int, int]:
    first = min(round(start * pixels), pixels - 1)
    return first, max(first + 1, min(round(stop * pixels), pixels))
