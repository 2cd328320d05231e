"""Object File Format, .off, as ModelNet40 has it: the surface of polygons between vertices.

Format: Geomview's manual, section OFF. Vertices may have colours, with the keyword COFF.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from features.clouds.cloud import Cloud, unit_colours
from features.clouds.surface import Surface, corner_colours, corners, fan, sample_surfaces
from features.clouds.text import parse_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Some files of ModelNet40 have the counts on the keyword's line, without a space between them.
_KEYWORD = re.compile(rb"\s*(C?)OFF(?=[\s\d])")


def read_off(content: bytes, surface_points: int) -> Cloud:
    """`surface_points` points of the surface in an .off file's bytes.

    Raises ValueError or ItemError.
    """
    keyword = _KEYWORD.match(content)
    if keyword is None:
        raise ValueError("it does not start with the keyword OFF or COFF")
    lines = _lines(content[keyword.end() :])
    counts = next(lines, b"").split()
    if len(counts) not in (2, 3) or not all(count.isdigit() for count in counts):
        raise ValueError("its second line does not count vertices, faces and edges")
    vertices, faces = int(counts[0]), int(counts[1])
    if vertices + faces > len(content):
        raise ValueError(f"it claims {vertices} vertices and {faces} faces, more than it holds")
    table = parse_rows(islice(lines, vertices))
    if len(table) != vertices or table.shape[1] < 3:
        raise ValueError(f"it claims {vertices} vertices, it has {table.shape}")
    triangles = _triangles(lines, faces)
    colours = None
    if keyword[1] and table.shape[1] >= 6:
        colours = corner_colours(corners(unit_colours(table[:, 3:6]) * 255, triangles))
    return sample_surfaces([Surface(corners(table[:, :3], triangles), colours)], surface_points)


def _lines(content: bytes) -> Iterator[bytes]:
    """The lines that have something beside a comment."""
    for line in BytesIO(content):
        if text := line.partition(b"#")[0].strip():
            yield text


def _triangles(lines: Iterator[bytes], faces: int) -> NDArray[np.int64]:
    polygons: dict[int, list[list[int]]] = defaultdict(list)
    for _ in range(faces):
        words = next(lines, b"").split()
        corner_count = int(words[0]) if words else -1
        if corner_count < 0 or len(words) <= corner_count:
            raise ValueError(f"it ends before the {faces} faces that it claims, or breaks one off")
        polygons[corner_count].append([int(word) for word in words[1 : corner_count + 1]])
    groups = [fan(np.array(rows, dtype=np.int64)) for _, rows in sorted(polygons.items())]
    return np.concatenate([np.empty((0, 3), dtype=np.int64), *groups])
