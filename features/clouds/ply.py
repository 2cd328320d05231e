"""Stanford PLY, ASCII and binary: a cloud, or the surface of a mesh where it has faces.

Format: Greg Turk, "The PLY Polygon File Format", 1994. Vertex properties may come in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from features.clouds.cloud import Cloud, unit_colours
from features.clouds.ply_rows import List, Property, Rows, ascii_rows, binary_rows
from features.clouds.surface import Surface, corner_colours, corners, fan, sample_surfaces

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
_HEADER_BYTES = 1 << 16
_COLOURS = (("red", "green", "blue"), ("r", "g", "b"))
_CORNERS = ("vertex_indices", "vertex_index")


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


def read_ply(content: bytes, surface_points: int) -> Cloud:
    """The vertices of a PLY file's bytes, or `surface_points` of its surface if it has faces.

    Raises ValueError, KeyError, struct.error or ItemError.
    """
    order, elements, start = _header(content)
    wanted = {"vertex", "face"} & {one.name for one in elements if one.count}
    found: dict[str, Rows] = {}
    for element in elements:
        if wanted <= found.keys():
            break
        reader = ascii_rows if order is None else binary_rows(order)
        rows, start = reader(content, start, element.count, element.properties)
        if element.name in wanted:
            found[element.name] = rows
    if "vertex" not in found:
        raise ValueError("it has no vertices")
    cloud = _vertices(found["vertex"].columns)
    if "face" not in found:
        return cloud
    lists = found["face"].lists
    polygons = next((lists[name] for name in _CORNERS if name in lists), None)
    if polygons is None:
        raise KeyError(f"its faces have no list {' or '.join(_CORNERS)}")
    triangles = np.concatenate([fan(group) for group in polygons])
    colours = None
    if cloud.rgb is not None:
        colours = corner_colours(corners(unit_colours(cloud.rgb) * 255, triangles))
    return sample_surfaces([Surface(corners(cloud.xyz, triangles), colours)], surface_points)


def _vertices(columns: Mapping[str, NDArray[Any]]) -> Cloud:
    missing = [axis for axis in "xyz" if axis not in columns]
    if missing:
        raise KeyError(f"its vertices have no {', '.join(missing)}")
    names = next((names for names in _COLOURS if columns.keys() >= set(names)), None)
    rgb = None if names is None else np.stack([columns[name] for name in names], axis=1)
    return Cloud(np.stack([columns[axis] for axis in "xyz"], axis=1), rgb)


def _header(content: bytes) -> tuple[str | None, list[_Element], int]:
    """The byte order (None for ASCII), the elements in their order, and where the data starts."""
    end = content.find(b"\nend_header", 0, _HEADER_BYTES)
    if not content.startswith(b"ply") or end < 0:
        raise ValueError("it has no PLY header")
    start = content.find(b"\n", end + 1) + 1 or len(content)
    order: str | None = None
    elements: list[_Element] = []
    for line in content[:end].decode("ascii", errors="replace").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) > 1 and words[1] in _ORDERS:
            order = _ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and words[2].isdigit():
            elements.append(_Element(words[1], int(words[2])))
        elif words[0] == "property" and elements:
            elements[-1].properties.append(_property(words))
        else:
            raise ValueError(f"its header has a line that is not known: {line.strip()[:40]}")
    return order, elements, start


def _property(words: list[str]) -> Property:
    types = [_TYPES.get(word, "") for word in words]
    if len(words) == 3 and types[1]:
        return Property(words[2], types[1])
    if len(words) == 5 and words[1] == "list" and types[2][:1] in ("i", "u") and types[3]:
        return List(words[4], types[3], types[2])
    raise ValueError(f"its header has a property that is not known: {' '.join(words)[:40]}")
