"""What every reader of point clouds gives: coordinates, and colours where the file has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import ItemError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# No file, and no array that a file describes, may be larger: a few bytes can claim terabytes.
MAX_BYTES = 1 << 29
_BYTE = 255
_WITH_COLOURS = (6, 7, 9)  # columns of a table that may have colours


@dataclass(frozen=True)
class Cloud:
    """Points as a file has them, not yet checked.

    xyz: (n, 3) numbers. rgb: (n, 3), whole numbers over their type's range (signed ones over
    0 to 255) or fractions over [0, 1] or [0, 255]; None where the file has no colours.
    """

    xyz: NDArray[Any]
    rgb: NDArray[Any] | None = None


def split_columns(table: NDArray[Any]) -> Cloud:
    """The cloud of a table (n, 3 or more) whose columns have no names.

    Coordinates come first. Three columns with a negative number are no colours but normals.
    6: coordinates and colours, or normals. 7: the same before an alpha or a label, which is
    ignored. 9: coordinates, and colours and normals in either order. Any other number of columns
    does not tell which of them are colours, and only coordinates are taken.
    Raises ItemError for another shape.
    """
    if table.ndim != 2 or table.shape[1] < 3:
        raise ItemError(f"a point cloud is an array (n, 3), this one is {table.shape}")
    width = table.shape[1]
    starts = range(3, width - 2, 3) if width in _WITH_COLOURS else ()
    triples = (table[:, start : start + 3] for start in starts)
    return Cloud(table[:, :3], next((one for one in triples if not (one < 0).any()), None))


def unit_colours(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """Colours (n, 3) in [0, 1]; fractions above 1 mean a scale of 0 to 255. Raises ItemError."""
    scale = 1
    if rgb.dtype.kind == "u":
        scale = int(np.iinfo(rgb.dtype).max)
    elif rgb.dtype.kind == "i" or (rgb.size and rgb.max() > 1):
        scale = _BYTE
    unit = rgb.astype(np.float32) / np.float32(scale)
    if not ((unit >= 0) & (unit <= 1)).all():
        raise ItemError(f"a colour is in 0 to 1 or 0 to {_BYTE}, one here is not")
    return unit
