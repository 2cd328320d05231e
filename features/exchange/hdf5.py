"""HDF5 files of ann-benchmarks: `train` and `test` vectors, `neighbors` and `distances`.

HDF5 can take a dataset from another file: by a link, a virtual dataset or external storage. Only
what lies in the file itself is read, so that importing one file never takes in another.

Axes: n rows, d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.exchange.embedding_file import (
    EmbeddingFile,
    block_rows,
    require_bytes,
    require_embeddings,
)
from features.exchange.join import stored_column
from features.files import require_file
from features.hdf5 import require_sound, stored_bytes, texts_of
from features.memories.memory import FORMAT
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN = "train"
_COSINE = ("angular", "cosine")
_PARTS = ("utf8", "offsets")  # of a column
_DAMAGED = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)


def open_hdf5(path: Path, key: str | None) -> EmbeddingFile:
    """The dataset `key` (`train` unless told) of an HDF5 file.

    Raises UserError if it is not there, or the file is damaged or a memory already.
    """
    import h5py

    key = key or TRAIN
    try:
        require_sound(require_file(path, "embeddings"))
        with h5py.File(path, "r") as file:
            texts = texts_of(file, path, ("format", "distance"))
            if texts.get("format") == FORMAT:
                raise UserError(f"{path} is a memory already: use it as it is")
            inside = _inside(file)
            names = [name for name, one in inside.items() if isinstance(one, h5py.Dataset)]
            if key not in names:
                _refuse_link(file, key, path)
                raise UserError(
                    f"{path} has no dataset '{key}': name one of {', '.join(names) or 'none'} "
                    "with --key"
                )
            shape: tuple[int, ...] = inside[key].shape or ()  # None if it is empty
            dtype = inside[key].dtype
            require_embeddings(path, shape, dtype)
            rows, dimension = shape[0], shape[1]
            require_bytes(path, shape, dtype, _stored_bytes(inside[key], path))
            # `exporting` says what the rows of `train` are; those of `test` have no names.
            named = [n for n, one in inside.items() if isinstance(one, h5py.Group) and key == TRAIN]
            columns = _GroupColumns(path, [n for n in named if {*_PARTS} <= {*_inside(file[n])}])
            distance = texts.get("distance")
    except _DAMAGED as error:
        raise _unreadable(path, error) from error

    def blocks() -> Iterator[NDArray[Any]]:
        step = block_rows(dimension, dtype)
        with h5py.File(path, "r") as file:
            for start in range(0, rows, step):
                try:
                    block = file[key][start : start + step]
                except _DAMAGED as error:
                    raise _unreadable(path, error) from error
                yield block

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

        try:
            with h5py.File(self.path, "r") as file:
                utf8, offsets = (self._array(file[name][part]) for part in _PARTS)
        except _DAMAGED as error:
            raise _unreadable(self.path, error) from error
        return stored_column(name, self.path, utf8, offsets)

    def _array(self, dataset: Any) -> NDArray[Any]:
        if dataset.size * dataset.dtype.itemsize > _stored_bytes(dataset, self.path):
            raise UserError(f"the column {dataset.name} of {self.path} is damaged: export it again")
        return np.asarray(dataset[...])


def _inside(group: Any) -> dict[str, Any]:
    """The members of a group that are no links to elsewhere."""
    import h5py

    own = [n for n in group if isinstance(group.get(n, getlink=True), h5py.HardLink)]
    return {name: group[name] for name in own}


def _refuse_link(file: Any, key: str, path: Path) -> None:
    if key in {*file}:
        raise UserError(
            f"'{key}' of {path} is a link or no dataset, and links are not followed: copy the "
            "dataset itself into the file"
        )


def _stored_bytes(dataset: Any, path: Path) -> int:
    """The most bytes that what the file holds of a dataset can stand for.

    Raises UserError if they are in other files.
    """
    if dataset.is_virtual or dataset.external:
        raise UserError(
            f"{dataset.name} of {path} is stored in other files, which are not read: copy the "
            "dataset itself into the file"
        )
    return stored_bytes(dataset, path)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"{path} is not a readable HDF5 file ({reason}): make it again")
