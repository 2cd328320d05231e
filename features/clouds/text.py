"""Point clouds as lines of numbers: .xyz and .pts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from features.clouds.cloud import Cloud, split_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INTENSITY_AND_COLOURS = 7


def read_lines(content: bytes) -> Cloud:
    """The cloud of a text file: x y z [intensity] [r g b] on each line, `#` starts a comment.

    The first line may be the number of points alone, as in .pts. Raises ValueError.
    """
    first, _, rest = content.lstrip().partition(b"\n")
    count = int(first) if first.strip().isdigit() else None
    table = parse_rows(BytesIO(content if count is None else rest))
    if count is not None and count != len(table):
        raise ValueError(f"its first line claims {count} points, it has {len(table)}")
    if table.shape[1] == _INTENSITY_AND_COLOURS:
        return Cloud(table[:, :3], table[:, 4:])
    return split_columns(table)


def parse_rows(lines: Iterable[bytes]) -> NDArray[np.float64]:
    """Numbers separated by white space as a table, one row for each line. Raises ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of no lines at all, which is an error here
        table = np.loadtxt(lines, dtype=np.float64, ndmin=2)
    if not table.size:
        raise ValueError("it has no points")
    return table


def typed(column: NDArray[np.float64], code: str) -> NDArray[Any]:
    """Numbers (n,) that were written as text, in the type of numpy's `code`. Raises ValueError."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = column.astype(code)
    if values.dtype.kind in "iu" and not (values == column).all():
        raise ValueError(f"a column of type {values.dtype} has a number of another type")
    return values
