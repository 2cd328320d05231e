"""Files that are a short header and rows: safetensors, and `.fbin`, `.f16bin` of big-ann.

big-ann-benchmarks: uint32 n, uint32 d, then n rows of d values. safetensors: uint64 length of a
JSON object with name, type, shape and place of every tensor, then the tensors.

Axes: n rows, d dimensions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.exchange.arrays import pick_array
from features.exchange.embedding_file import EmbeddingFile, raw_blocks, require_embeddings
from features.exchange.join import stored_column
from features.files import require_file
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

BIG_ANN: dict[str, np.dtype[Any]] = {".fbin": np.dtype("<f4"), ".f16bin": np.dtype("<f2")}
TENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U8": "|u1"}
_NO_HEADER = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors itself allows
UTF8, OFFSETS = ".utf8", ".offsets"  # a column is the tensors NAME.utf8 and NAME.offsets


def open_big_ann(path: Path) -> EmbeddingFile:
    """The vectors of a .fbin or .f16bin file. Raises UserError if its size is not as it says."""
    dtype = BIG_ANN[path.suffix.lower()]
    header = np.fromfile(require_file(path, "embeddings"), dtype="<u4", count=2)
    rows, dimension = (int(one) for one in header) if len(header) == 2 else (0, 0)
    expected, found = 8 + rows * dimension * dtype.itemsize, path.stat().st_size
    if len(header) < 2 or found != expected:
        raise UserError(
            f"{path} has {found} bytes but the {rows} vectors of {dimension} {dtype} that its "
            f"header tells of need {expected}: check the suffix, or download it again"
        )
    require_embeddings(path, (rows, dimension), dtype)

    def blocks() -> Iterator[NDArray[Any]]:
        with path.open("rb") as file:
            file.seek(8)
            yield from raw_blocks(file, path, rows, dimension, dtype)

    return EmbeddingFile(path, rows, dimension, dtype, blocks)


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def open_safetensors(path: Path, key: str | None) -> EmbeddingFile:
    """The tensor called `key`, or the only one of two axes; bfloat16 becomes float32.

    Raises UserError if there is none, or the file is damaged.
    """
    tensors = _tensors(require_file(path, "embeddings"))
    name = pick_array({name: one.shape for name, one in tensors.items()}, key, path)
    tensor = tensors[name]
    brain = tensor.dtype == "BF16"
    stored = np.dtype(TENSORS.get(tensor.dtype, "V1"))
    dtype = np.dtype(np.float32) if brain else stored
    require_embeddings(path, tensor.shape, dtype)
    rows, dimension = tensor.shape

    def blocks() -> Iterator[NDArray[Any]]:
        with path.open("rb") as file:
            file.seek(tensor.start)
            for block in raw_blocks(file, path, rows, dimension, stored):
                yield (block.astype(np.uint32) << 16).view(np.float32) if brain else block

    names = [one.removesuffix(UTF8) for one in tensors if one.endswith(UTF8)]
    columns = _TensorColumns(path, [one for one in names if one + OFFSETS in tensors], tensors)
    return EmbeddingFile(path, rows, dimension, dtype, blocks, columns)


@dataclass(frozen=True)
class _TensorColumns:
    path: Path
    names: Sequence[str]
    tensors: Mapping[str, _Tensor]

    def read(self, name: str) -> StringColumn:
        utf8, offsets = (self._array(self.tensors[name + part]) for part in (UTF8, OFFSETS))
        return stored_column(name, self.path, utf8, offsets)

    def _array(self, tensor: _Tensor) -> NDArray[Any]:
        dtype = np.dtype(TENSORS.get(tensor.dtype, "V1"))
        count = (tensor.stop - tensor.start) // dtype.itemsize
        return np.fromfile(self.path, dtype, count, offset=tensor.start)


def _tensors(path: Path) -> dict[str, _Tensor]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size - 8, _LONGEST_HEADER):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        found = {
            name: _Tensor(
                one["dtype"],
                tuple(one["shape"]),
                8 + length + one["data_offsets"][0],
                8 + length + one["data_offsets"][1],
            )
            for name, one in header.items()
            if name != "__metadata__"
        }
        for name, one in found.items():
            if not _fits(one, 8 + length, size):
                raise ValueError(f"the tensor {name} does not fit into the file")
    except _NO_HEADER as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({error}): make it again"
        ) from error
    return found


def _fits(tensor: _Tensor, start: int, stop: int) -> bool:
    """Whether a tensor lies between two places of a file, and is as long as its shape says."""
    # JSON may also have lists, fractions and negative numbers there.
    if not all(type(one) is int and one >= 0 for one in (*tensor.shape, tensor.start, tensor.stop)):
        return False
    size = tensor.stop - tensor.start
    if tensor.dtype in TENSORS and size != (
        math.prod(tensor.shape) * np.dtype(TENSORS[tensor.dtype]).itemsize
    ):
        return False
    return start <= tensor.start <= tensor.stop <= stop
