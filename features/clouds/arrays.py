"""Point clouds in numpy's own files, .npy and .npz, never unpickled.

Their headers are checked before anything is allocated: numpy itself allocates what they claim.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np

from features.clouds.cloud import MAX_BYTES, Cloud, split_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ZIP = b"PK"
_npy: Any = np.lib.format  # parts of it have no types


def read_arrays(content: bytes) -> Cloud:
    """The cloud of an .npy or .npz file's bytes.

    .npz holds (n, 3) `xyz` and perhaps (n, 3 or 4) `rgb`, or a single array; a single array, and
    .npy, hold coordinates and perhaps colours as `split_columns` says. Raises ValueError,
    KeyError, or an error of zipfile or zlib.
    """
    if not content.startswith(_ZIP):
        return split_columns(_numbers(BytesIO(content), len(content)))
    with ZipFile(BytesIO(content)) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

        def member(name: str) -> NDArray[Any]:
            with archive.open(members[name]) as file:
                return _numbers(file, members[name].file_size)

        if "xyz" in members:
            rgb = member("rgb") if "rgb" in members else None
            return Cloud(member("xyz"), rgb)
        if len(members) == 1:
            return split_columns(member(*members))
        raise KeyError(f"no array named xyz among {', '.join(members) or 'none'}")


def _numbers(file: IO[bytes], size: int) -> NDArray[Any]:
    """The array of numbers in an .npy stream of `size` bytes."""
    shape, column_order, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which need allow_pickle and are never loaded")
    if dtype.kind not in "fiu":
        raise ValueError(f"a point cloud holds numbers, this one has type {dtype}")
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or claimed > min(size, MAX_BYTES):
        raise ValueError(f"it claims an array {shape} of {dtype}, more than it holds or may hold")
    data = file.read(claimed)
    if len(data) < claimed:
        raise ValueError(f"it ends after {len(data)} of {claimed} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if column_order else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether columns come first, and the type."""
    version = _npy.read_magic(file)
    readers = {(1, 0): _npy.read_array_header_1_0, (2, 0): _npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its array format {version} is for tables, not for numbers")
    try:
        shape, column_order, dtype = readers[version](file)
    except Exception as error:
        # numpy reads it as Python source, whose parsers fail in a dozen ways on damaged bytes.
        raise ValueError(f"its header is damaged ({type(error).__name__})") from error
    return shape, column_order, dtype
