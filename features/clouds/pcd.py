"""Point clouds of the Point Cloud Library, .pcd: ASCII, binary and compressed.

Format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html. Numbers are little
endian. Colours are four bytes in one number, blue first, even where its type is float.
"""

from __future__ import annotations

import struct
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from features.clouds.cloud import MAX_BYTES, Cloud
from features.clouds.lzf import decompress
from features.clouds.text import parse_rows, typed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADER_BYTES = 1 << 16
_KINDS = {"F": "f", "U": "u", "I": "i"}
_SIZES = (1, 2, 4, 8)
_PADDING = "_"


def read_pcd(content: bytes) -> Cloud:
    """The cloud of a .pcd file's bytes. Raises ValueError, KeyError or struct.error."""
    header, encoding, start = _header(content)
    row = _row(header)
    claimed = header.get("POINTS") or [str(_number(header, "WIDTH") * _number(header, "HEIGHT"))]
    count = _number({"POINTS": claimed}, "POINTS")
    if not count or count * row.itemsize > MAX_BYTES:
        raise ValueError(f"its header claims {count} points of {row.itemsize} bytes")
    if encoding == "ascii":
        columns = _ascii(content, start, count, row)
    elif encoding == "binary":
        if count * row.itemsize > len(content) - start:
            raise ValueError(f"it ends before the {count} points that its header claims")
        table = np.frombuffer(content, row, count, start)
        columns = {name: table[name] for name in row.names or ()}
    elif encoding == "binary_compressed":
        columns = _compressed(content, start, count, row)
    else:
        raise ValueError(f"its data are {encoding}, not ascii, binary or binary_compressed")
    missing = [axis for axis in "xyz" if axis not in columns]
    if missing:
        raise KeyError(f"its points have no {', '.join(missing)}")
    packed = next((columns[name] for name in ("rgb", "rgba") if name in columns), None)
    xyz = np.stack([columns[axis] for axis in "xyz"], axis=1)
    return Cloud(xyz, None if packed is None else _unpacked(packed))


def _header(content: bytes) -> tuple[dict[str, list[str]], str, int]:
    """The lines of the header by their first word, the encoding, and where the data start."""
    header: dict[str, list[str]] = {}
    position = 0
    while position < min(len(content), _HEADER_BYTES):
        end = content.find(b"\n", position, _HEADER_BYTES)
        end = len(content) if end < 0 else end
        words = content[position:end].decode("ascii", errors="replace").split()
        position = end + 1
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "DATA" and len(words) == 2:
            return header, words[1], min(position, len(content))
        header[words[0]] = words[1:]
    raise ValueError("it has no PCD header")


def _row(header: dict[str, list[str]]) -> np.dtype[Any]:
    """One point as a numpy type, a field for each of FIELDS but those that are padding."""
    names, kinds = header["FIELDS"], header["TYPE"]
    sizes = [int(size) for size in header["SIZE"]]
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(names))]
    if not len(names) == len(kinds) == len(sizes) == len(counts):
        raise ValueError("its header has lines FIELDS, SIZE, TYPE and COUNT of different lengths")
    fields: list[Any] = []
    for i, (name, kind, size, count) in enumerate(zip(names, kinds, sizes, counts, strict=True)):
        if kind not in _KINDS or size not in _SIZES or not 0 < count <= _HEADER_BYTES:
            raise ValueError(f"its field {name[:40]} has type {kind[:9]}, size {size}, {count}")
        shape = () if count == 1 else (count,)
        name = f"{_PADDING}{i}" if name == _PADDING else name
        fields.append((name, f"<{_KINDS[kind]}{size}", shape))
    return np.dtype(fields)


def _number(header: dict[str, list[str]], name: str) -> int:
    (word,) = header[name]
    if not word.isdigit():
        raise ValueError(f"its {name} is {word[:40]}, not a whole number")
    return int(word)


def _ascii(content: bytes, start: int, count: int, row: np.dtype[Any]) -> dict[str, NDArray[Any]]:
    if count > len(content) - start:
        raise ValueError(f"its header claims {count} points, more than the file holds")
    stream = BytesIO(content)
    stream.seek(start)
    table = parse_rows(islice(stream, count))
    columns: dict[str, NDArray[Any]] = {}
    column = 0
    for name in row.names or ():
        base, shape = row[name].base, row[name].shape
        if not shape:
            columns[name] = typed(table[:, column], base.str)
        column += shape[0] if shape else 1
    if table.shape != (count, column):
        raise ValueError(
            f"its header claims {count} points of {column} numbers, it has {table.shape}"
        )
    return columns


def _compressed(
    content: bytes, start: int, count: int, row: np.dtype[Any]
) -> dict[str, NDArray[Any]]:
    """Compressed data are the fields one after another, each for all points."""
    packed, unpacked = struct.unpack_from("<II", content, start)
    if unpacked != count * row.itemsize:
        raise ValueError(f"it claims {unpacked} bytes for {count} points of {row.itemsize}")
    data = decompress(content[start + 8 : start + 8 + packed], unpacked)
    columns: dict[str, NDArray[Any]] = {}
    position = 0
    for name in row.names or ():
        size = count * row[name].itemsize
        columns[name] = np.frombuffer(data[position : position + size], row[name].base).reshape(
            count, *row[name].shape
        )
        position += size
    return columns


def _unpacked(packed: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours (n, 3) from four-byte numbers, whatever their type."""
    if packed.dtype.itemsize != 4 or packed.ndim != 1:
        raise ValueError(f"its packed colours are {packed.dtype}, not numbers of four bytes")
    channels = np.ascontiguousarray(packed).view(np.uint8).reshape(-1, 4)
    return channels[:, [2, 1, 0]]
