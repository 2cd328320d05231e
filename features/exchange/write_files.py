"""Writing single files: `.npy`, `.npz`, `.safetensors`, `.fbin` and `.f16bin`.

See `arrays` and `raw_files` for their layouts.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as _format

from features.errors import UserError
from features.exchange.join import join_lines
from features.exchange.raw_files import OFFSETS, TENSORS, UTF8
from features.exchange.stored import Stored
from features.files import replacing
from features.memories.memory import Memory
from features.memories.sealing import as_column
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

npy: Any = _format  # has no types before NumPy 2
_WIDEST_COLUMN = 2 << 30  # bytes of an array of strings, all as long as the longest


def write_npy(stored: Stored, path: Path) -> None:
    """An array (n, d), and the ids beside it, one a line."""
    write_ids(stored, path)
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_array(stored, file)


def write_array(stored: Stored, file: Any, start: int = 0, stop: int | None = None) -> None:
    """The rows from `start` to `stop` in the format of .npy."""
    rows = (stored.shape[0] if stop is None else stop) - start
    _write_npy_header(file, (rows, stored.shape[1]), stored.dtype)
    for block in stored.blocks(start, stop):
        file.write(block.data)


def write_npz(stored: Stored, path: Path) -> None:
    """The arrays `embeddings` and `ids`, and `items` and `labels` where there are some."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, column in stored.columns.items():
            strings = _string_array(column, name, path)
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                npy.write_array(file, strings, allow_pickle=False)
        with archive.open(zipfile.ZipInfo("embeddings.npy"), "w", force_zip64=True) as file:
            write_array(stored, file)


def write_big_ann(stored: Stored, path: Path) -> None:
    """A .fbin or .f16bin file, and the ids beside it, one a line."""
    write_ids(stored, path)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(np.array(stored.shape, dtype="<u4").data)
        for block in stored.blocks():
            file.write(block.data)


def write_safetensors(stored: Stored, path: Path) -> None:
    """The tensors `embeddings`, and `NAME.utf8` and `NAME.offsets` of every column.

    The metadata say space, modality, encoder and fingerprint.
    """
    columns = stored.columns
    arrays: dict[str, NDArray[Any]] = {
        **{name + OFFSETS: np.asarray(one.offsets) for name, one in columns.items()},
        "embeddings": np.zeros((0,), stored.dtype),  # its place; written in blocks
        **{name + UTF8: np.asarray(one.utf8) for name, one in columns.items()},
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_safetensors_header(stored, arrays))
        for name, array in arrays.items():
            if name == "embeddings":
                for block in stored.blocks():
                    file.write(block.data)
            else:
                file.write(np.ascontiguousarray(array).data)


def _safetensors_header(stored: Stored, arrays: dict[str, NDArray[Any]]) -> bytes:
    kinds = {np.dtype(code).str: name for name, code in TENSORS.items()}
    header: dict[str, Any] = {"__metadata__": stored.about}
    offset = 0
    for name, array in arrays.items():
        shape = stored.shape if name == "embeddings" else array.shape
        stop = offset + int(np.prod(shape)) * array.itemsize
        header[name] = {
            "dtype": kinds[array.dtype.str],
            "shape": list(shape),
            "data_offsets": [offset, stop],
        }
        offset = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return len(text).to_bytes(8, "little") + text


def ids_path(path: Path) -> Path:
    """Where the ids of a file without a place for them are."""
    return path.with_suffix(".ids.txt")


def write_ids(stored: Stored, path: Path) -> None:
    """The ids, one a line. Raises UserError if one has a line break."""
    ids = stored.columns["ids"]
    if ((ids.utf8 == ord("\n")) | (ids.utf8 == ord("\r"))).any():
        raise UserError(
            f"ids of {stored.memory.path} have line breaks and {ids_path(path)} holds one a line: "
            "export a .parquet, .npz or .safetensors file"
        )
    with replacing(ids_path(path)) as temporary:
        temporary.write_bytes(join_lines(ids))


def holds_ids(path: Path, memory: Memory) -> bool:
    """Whether a file is what `write_ids` writes of the memory."""
    return path.is_file() and path.read_bytes() == join_lines(as_column(memory.ids))


def _string_array(column: StringColumn, name: str, path: Path) -> NDArray[np.str_]:
    strings = list(column)
    longest = max(map(len, strings))
    if longest * 4 * len(strings) > _WIDEST_COLUMN:
        raise UserError(
            f"{path} would pad all {name} to the {longest} characters of the longest: export a "
            ".parquet or .safetensors file"
        )
    array = np.array(strings, dtype=np.str_)
    if any(one.endswith("\0") for one in strings):
        raise UserError(
            f"{name} of {path} end with a zero character, which NumPy would cut off: export a "
            ".parquet or .safetensors file"
        )
    return array


def _write_npy_header(file: BinaryIO, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    npy.write_array_header_1_0(
        file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
