"""Where the local embeddings of a picture lie in it: encoders crop, squeeze or pad pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.errors import ItemError, UserError
from features.extraction.decode import read_image
from features.memories.memory import Memory
from features.suggest import unknown

# How a picture becomes the encoder's input, by open_clip's name of it.
FITS = {"shortest": "crop", "longest": "pad", "squash": "squash"}
_PATCH = 8  # pixels of a mini encoder's


@dataclass(frozen=True)
class View:
    """What an encoder sees of pictures.

    grid: rows and columns of local embeddings. fit: `crop`, the middle of the picture; `pad`, all
    of it with margins; `squash`, all of it, squeezed. shape: height and width of its input.
    """

    grid: tuple[int, int]
    fit: str
    shape: tuple[int, int]

    def window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what the grid covers, in fractions of a picture of this size.

        Below 0 and above 1 where the encoder pads.
        """
        if self.fit == "squash":
            return 0.0, 0.0, 1.0, 1.0
        scales = self.shape[0] / height, self.shape[1] / width
        scale = max(scales) if self.fit == "crop" else min(scales)
        tall, wide = self.shape[0] / scale / height, self.shape[1] / scale / width
        return (1 - wide) / 2, (1 - tall) / 2, (1 + wide) / 2, (1 + tall) / 2


def view_of(memory: Memory, grid: tuple[int, int] | None = None, fit: str | None = None) -> View:
    """What the memory's encoder sees, as far as it is recorded; `grid` and `fit` override it.

    Raises UserError if it cannot be told.
    """
    steps: Mapping[str, Any] = memory.header.encoder.get("preprocessing") or {}
    image = steps.get("image")
    places = memory.header.local_length
    shape = (1, 1)
    if isinstance(image, Mapping):
        size = image.get("size", (1, 1))
        shape = (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (size, size)
        fit = fit or FITS.get(str(image.get("resize_mode")))
    elif "image_height" in steps:
        shape = (int(steps["image_height"]), int(steps["image_width"]))
        fit = fit or "pad"
        grid = grid or (shape[0] // _PATCH, shape[1] // _PATCH)
    if grid is None and math.isqrt(places) ** 2 == places:
        grid = (math.isqrt(places), math.isqrt(places))
    if grid is None or grid[0] * grid[1] != places:
        told = "" if grid is None else f", which are not {grid[0]} x {grid[1]}"
        raise UserError(
            f"{memory.path} has {places} local embeddings of each picture{told}: say how many rows "
            "and columns they make with --grid ROWSxCOLUMNS"
        )
    if fit is None:
        raise UserError(
            f"{memory.path} does not say how its encoder fits pictures into its input: say it with "
            f"--fit, {', '.join(FITS.values())}"
        )
    if fit not in FITS.values():
        raise unknown("fit", fit, FITS.values())
    return View(grid, fit, shape)


def picture_size(memory: Memory, row: int) -> tuple[int, int]:
    """Height and width of the picture at `row`. Raises UserError if its file cannot be read."""
    path = memory.item_path(row)
    try:
        if path is None:
            raise ItemError("the memory does not say from which file it was made")
        picture = read_image(path)
    except ItemError as error:
        raise UserError(
            f"how {memory.ids[row]} of {memory.path} was cropped needs its proportions, but "
            f"{error}: put the file back, or pass --fit squash if it is shaped as the input"
        ) from error
    return picture.height, picture.width
