"""NumPy's files: `.npy`, and `.npz` with one array of embeddings and, perhaps, its columns.

Nothing is unpickled. Axes: n rows, d dimensions.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as _format

from features.errors import UserError
from features.exchange.embedding_file import EmbeddingFile, raw_blocks, require_embeddings
from features.files import require_file
from features.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

npy: Any = _format  # has no types before NumPy 2
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def open_npy(path: Path) -> EmbeddingFile:
    """The array (n, d) of a .npy file. Raises UserError if it is none or damaged."""
    require_file(path, "embeddings")

    def opened() -> BinaryIO:
        return path.open("rb")

    with opened() as file:
        shape, dtype = _header(file, path)
        require_embeddings(path, shape, dtype)
        expected = file.tell() + shape[0] * shape[1] * dtype.itemsize
    found = path.stat().st_size
    if found < expected:
        raise UserError(
            f"{path} has {found} bytes but its {shape[0]} rows of {shape[1]} {dtype} need "
            f"{expected}: it was not written or copied completely, make it again"
        )
    return EmbeddingFile(path, shape[0], shape[1], dtype, _blocks(opened, path, shape, dtype))


def open_npz(path: Path, key: str | None) -> EmbeddingFile:
    """The array called `key`, or the only one of two axes, of an .npz file.

    Arrays of n strings or whole numbers are its columns. Raises UserError if there is none.
    """
    try:
        with zipfile.ZipFile(require_file(path, "embeddings")) as archive:
            headers = {
                name.removesuffix(".npy"): _member_header(archive, name, path)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
    except (zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path} is not a readable .npz file ({error}): make it again") from error
    name = pick_array({name: shape for name, (shape, _) in headers.items()}, key, path)
    shape, dtype = headers[name]
    require_embeddings(path, shape, dtype)
    columns = [
        other
        for other, (its_shape, its_dtype) in headers.items()
        if its_shape == (shape[0],) and its_dtype.kind in "USiu"
    ]

    def opened() -> BinaryIO:
        return zipfile.ZipFile(path).open(f"{name}.npy")  # type: ignore[return-value]

    blocks = _blocks(opened, path, shape, dtype)
    return EmbeddingFile(path, shape[0], shape[1], dtype, blocks, NpzColumns(path, columns))


def pick_array(shapes: dict[str, Sequence[int]], key: str | None, path: Path) -> str:
    """The array called `key`, or the only one that could be embeddings.

    Raises UserError, naming what there is, if that does not name one.
    """
    told = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items()) or "none"
    if key is not None:
        if key not in shapes:
            raise UserError(f"{path} has no array '{key}': its arrays are {told}")
        return key
    wide = [name for name, shape in shapes.items() if len(shape) == 2]
    if len(wide) != 1:
        raise UserError(
            f"{path} has {len(wide)} arrays of rows (n, d): name the embeddings with --key, its "
            f"arrays are {told}"
        )
    return wide[0]


@dataclass(frozen=True)
class NpzColumns:
    """Arrays of n strings, bytes or whole numbers in an .npz file."""

    path: Path
    names: Sequence[str]

    def read(self, name: str) -> StringColumn:
        """A column as text."""
        with np.load(self.path, allow_pickle=False) as arrays:
            values: NDArray[Any] = arrays[name]
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8")
        return StringColumn.of(map(str, values.tolist()))


def _blocks(
    opened: Callable[[], BinaryIO], path: Path, shape: Sequence[int], dtype: np.dtype[Any]
) -> Callable[[], Iterator[NDArray[Any]]]:
    def blocks() -> Iterator[NDArray[Any]]:
        with opened() as file:
            _header(file, path)
            try:
                yield from raw_blocks(file, path, shape[0], shape[1], dtype)
            except _DAMAGED as error:
                raise UserError(
                    f"{path} is damaged ({error}): it was not written or copied completely, make "
                    "it again"
                ) from error

    return blocks


def _member_header(
    archive: zipfile.ZipFile, name: str, path: Path
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(name) as file:
        return _header(file, path)


def _header(file: Any, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        shape, fortran, dtype = _HEADERS[version](file)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a readable array ({reason}): save it again") from error
    if dtype.hasobject:
        raise UserError(
            f"{path} holds Python objects, which could run code when they are read: save the "
            "embeddings as an array of floats"
        )
    if fortran and len(shape) == 2 and 1 not in shape:
        raise UserError(
            f"{path} is stored column by column (Fortran order) and memories are stored row by "
            "row: save numpy.ascontiguousarray(embeddings)"
        )
    return shape, dtype
