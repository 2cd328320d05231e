"""HDF5 files of ann-benchmarks: `train` and `test` vectors, `neighbors` and `distances`.

Axes: n rows, d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import UserError
from features.exchange.embedding_file import EmbeddingFile, block_rows, require_embeddings
from features.files import require_file
from features.memory import FORMAT
from features.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN = "train"
_COSINE = ("angular", "cosine")


def open_hdf5(path: Path, key: str | None) -> EmbeddingFile:
    """The dataset `key` (`train` unless told) of an HDF5 file.

    Raises UserError if it is not there, or the file is damaged or a memory already.
    """
    import h5py

    key = key or TRAIN
    try:
        with h5py.File(require_file(path, "embeddings"), "r") as file:
            if file.attrs.get("format") == FORMAT:
                raise UserError(f"{path} is a memory already: use it as it is")
            names = [name for name, one in file.items() if isinstance(one, h5py.Dataset)]
            if key not in names:
                raise UserError(
                    f"{path} has no dataset '{key}': name one of {', '.join(names) or 'none'} "
                    "with --key"
                )
            shape, dtype = file[key].shape, file[key].dtype
            # `exporting` says what the rows of `train` are; those of `test` have no names.
            named = [n for n, one in file.items() if isinstance(one, h5py.Group) and key == TRAIN]
            columns = _GroupColumns(path, [n for n in named if {"utf8", "offsets"} <= {*file[n]}])
            distance = _text(file.attrs.get("distance"))
    except OSError as error:
        raise UserError(f"{path} is not a readable HDF5 file ({error}): make it again") from error
    require_embeddings(path, shape, dtype)
    rows, dimension = shape

    def blocks() -> Iterator[NDArray[Any]]:
        step = block_rows(dimension, dtype)
        with h5py.File(path, "r") as file:
            for start in range(0, rows, step):
                yield file[key][start : start + step]

    notes = []
    if distance is not None and distance not in _COSINE:
        notes.append(
            f"{path} is made for the distance '{distance}'; a memory's rows are compared by cosine"
        )
    return EmbeddingFile(path, rows, dimension, dtype, blocks, columns, notes)


@dataclass(frozen=True)
class _GroupColumns:
    """Columns as memories store them, beside `train`."""

    path: Path
    names: Sequence[str]

    def read(self, name: str) -> StringColumn:
        import h5py

        with h5py.File(self.path, "r") as file:
            return StringColumn(file[name]["utf8"][...], file[name]["offsets"][...])


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)
