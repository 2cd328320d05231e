"""NumPy's files: `.npy`, and `.npz` with one array of embeddings and, perhaps, its columns.

Nothing is unpickled. Axes: n rows, d dimensions.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as _format

from features.errors import UserError
from features.exchange.embedding_file import (
    EmbeddingFile,
    raw_blocks,
    require_bytes,
    require_embeddings,
)
from features.files import require_file
from features.memories.strings import StringColumn
from features.room import free_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

npy: Any = _format  # has no types before NumPy 2
# RuntimeError if it is encrypted, ValueError if names are not UTF-8.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
_NO_HEADER = (ValueError, SyntaxError, TokenError, TypeError, RecursionError, MemoryError)
_DEFLATED = 1032  # bytes that a byte of a deflated file stands for at most (zlib's documentation)
_DIGITS = 20  # of a whole number of 64 bits
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def open_npy(path: Path) -> EmbeddingFile:
    """The array (n, d) of a .npy file. Raises UserError if it is none or damaged."""
    require_file(path, "embeddings")

    def opened() -> BinaryIO:
        return path.open("rb")

    with opened() as file:
        array = _header(file, path, path.stat().st_size)
    _require_rows(array, path)
    blocks = _blocks(opened, path, array)
    return EmbeddingFile(path, array.shape[0], array.shape[1], array.dtype, blocks)


def open_npz(path: Path, key: str | None) -> EmbeddingFile:
    """The array called `key`, or the only one of two axes, of an .npz file.

    Arrays of n strings or whole numbers are its columns; what is wrong with other arrays does not
    matter. Raises UserError if there is none.
    """
    try:
        with zipfile.ZipFile(require_file(path, "embeddings")) as archive:
            arrays = {
                one.filename.removesuffix(".npy"): _member(archive, one, path)
                for one in archive.infolist()
                if one.filename.endswith(".npy")
            }
    except _DAMAGED as error:
        raise UserError(f"{path} is not a readable .npz file ({error}): make it again") from error
    name = pick_array({name: one.shape for name, one in arrays.items()}, key, path)
    array = arrays[name]
    _require_rows(array, path)
    rows, dimension = array.shape
    columns = {n: c for n, c in arrays.items() if c.shape == (rows,) and c.dtype.kind in "USiuO"}

    def opened() -> BinaryIO:
        return zipfile.ZipFile(path).open(f"{name}.npy")  # type: ignore[return-value]

    blocks = _blocks(opened, path, array)
    return EmbeddingFile(path, rows, dimension, array.dtype, blocks, NpzColumns(path, columns))


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
class StoredArray:
    """What an array's header says; stored: bytes that follow it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    stored: int


@dataclass(frozen=True)
class NpzColumns:
    """Arrays of n strings, bytes or whole numbers in an .npz file."""

    path: Path
    arrays: Mapping[str, StoredArray]

    @property
    def names(self) -> Sequence[str]:
        """What the arrays are called."""
        return list(self.arrays)

    def read(self, name: str) -> StringColumn:
        """A column as text, a block at a time.

        Raises UserError if it holds Python objects, is damaged, or is larger than the free memory:
        a thousand bytes of it may be one of the file.
        """
        array = self.arrays[name]
        if array.dtype.hasobject:
            raise UserError(
                f"the column {name} of {self.path} holds Python objects, which could run code when "
                f"they are read: save numpy.array({name}, dtype=str), or give a table with --ids"
            )
        if array.stored < array.shape[0] * array.dtype.itemsize:
            raise UserError(
                f"the column {name} of {self.path} has {array.stored} bytes but its "
                f"{array.shape[0]} values of {array.dtype} need more: make the file again"
            )
        self._require_room(name, array)
        try:
            return StringColumn.of(self._values(name, array))
        except (*_DAMAGED, ValueError, SystemError) as error:  # characters beyond Unicode
            raise UserError(
                f"the column {name} of {self.path} is damaged ({error}): make the file again"
            ) from error

    def _require_room(self, name: str, array: StoredArray) -> None:
        import torch

        size = array.dtype.itemsize
        text = {"U": size // 4, "S": size}.get(array.dtype.kind, _DIGITS)  # at least, or at most
        needed = max(size, array.shape[0] * (text + np.dtype(np.int64).itemsize))
        free = free_bytes(torch.device("cpu"))
        if needed > free:
            raise UserError(
                f"the column {name} of {self.path} has {array.shape[0]} values of {array.dtype}, "
                f"{needed} bytes as text, and {free} bytes of memory are free: save it narrower, "
                "or give a table with --ids"
            )

    def _values(self, name: str, array: StoredArray) -> Iterator[str]:
        rows, dtype = array.shape[0], array.dtype
        if not dtype.itemsize:
            yield from [""] * rows
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            _header(file, self.path, 0)
            for block in raw_blocks(file, self.path, rows, 1, dtype):  # type: ignore[arg-type]
                values = block[:, 0]
                decoded = np.char.decode(values, "utf-8") if dtype.kind == "S" else values
                yield from map(str, decoded.tolist())
            file.read(1)  # its end, where the archive's checksum is compared


def _blocks(
    opened: Callable[[], BinaryIO], path: Path, array: StoredArray
) -> Callable[[], Iterator[NDArray[Any]]]:
    def blocks() -> Iterator[NDArray[Any]]:
        with opened() as file:
            _header(file, path, 0)
            try:
                yield from raw_blocks(file, path, array.shape[0], array.shape[1], array.dtype)
            except _DAMAGED as error:
                raise UserError(
                    f"{path} is damaged ({error}): it was not written or copied completely, make "
                    "it again"
                ) from error

    return blocks


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> StoredArray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{member.filename} is not compressed as NumPy does it")
    # The archive says what it likes of its members' sizes, but it is as long as it is.
    packed = min(member.compress_size, path.stat().st_size)
    with archive.open(member) as file:
        return _header(file, path, min(member.file_size, packed * _DEFLATED))


def _header(file: Any, path: Path, size: int) -> StoredArray:
    """What the header of an open array of `size` bytes says."""
    try:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        shape, fortran, dtype = _HEADERS[version](file)
    except _NO_HEADER as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a readable array ({reason}): save it again") from error
    return StoredArray(shape, dtype, fortran, size - file.tell())


def _require_rows(array: StoredArray, path: Path) -> None:
    """Raise UserError unless the array could be embeddings and all of it is there."""
    if array.dtype.hasobject:
        raise UserError(
            f"{path} holds Python objects, which could run code when they are read: save the "
            "embeddings as an array of floats"
        )
    require_embeddings(path, array.shape, array.dtype)
    if array.fortran and 1 not in array.shape:
        raise UserError(
            f"{path} is stored column by column (Fortran order) and memories are stored row by "
            "row: save numpy.ascontiguousarray(embeddings)"
        )
    require_bytes(path, array.shape, array.dtype, array.stored)
