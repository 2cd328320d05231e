"""HDF5 files every byte of which has a checksum (`features.sums`), and arrays that are checked.

HDF5 sees no byte of the header that is not as it was written, and no data are used that are not.
Files of earlier versions have no checksums; they are read without.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.files import replacing
from features.hdf5 import require_numbers, texts_of
from features.hdf5_files import writing_hdf5
from features.memories.strings import StringColumn
from features.parsing import parse_json
from features.sums import Blocks, Data, Sums, append_sums, find_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MARK = "checksums"  # the attribute of files that have some: to notice where they were cut off
_ATTEMPTS = 100  # to open a file that others replace


@contextmanager
def creating(
    path: Path, *, synced: bool = True, new: bool = False
) -> Iterator[tuple[Any, int, dict[str, list[int]]]]:
    """An open h5py file that takes the place of `path`, with checksums, when the block ends well.

    With it come the descriptor of the file below it, and a dict for the checksums of data that are
    known already, by the datasets' names. synced, new: see `replacing`.
    """
    with replacing(path, synced=synced, new=new) as temporary:
        known: dict[str, list[int]] = {}
        with writing_hdf5(temporary, libver="v110") as (file, descriptor):
            yield file, descriptor, known
            file.attrs[_MARK] = 1
            data = _data(file)
        append_sums(temporary, data, known)


@contextmanager
def opened(path: Path, remedy: str) -> Iterator[Opened]:
    """The file `path`, open for reading.

    remedy: what to do where it is damaged. Raises UserError if it is; what HDF5 raises otherwise.
    """
    import h5py

    for _ in range(_ATTEMPTS):
        with path.open("rb") as raw:
            sums = find_sums(raw.fileno(), path, remedy, mapped=True)
            with h5py.File(path, "r") as file:
                if not os.path.sameopenfile(raw.fileno(), file.id.get_vfd_handle()):
                    continue  # another took its name in between
                yield Opened(file, path, sums, remedy)
                return
    raise UserError(f"{path} is replaced again and again: wait until nothing writes it")


class Opened:
    """A file that is open for reading: its attributes, and what is mapped from it."""

    def __init__(self, file: Any, path: Path, sums: Sums | None, remedy: str) -> None:
        self.file, self.path, self.sums, self.remedy = file, path, sums, remedy

    def require_sums(self) -> None:
        """Raise UserError if checksums were written and are not there."""
        if self.sums is None and _MARK in self.file.attrs:
            raise UserError(
                f"{self.path} is damaged, the checksums at its end are not there, as if it were "
                f"cut off or another program had written to it: {self.remedy}"
            )

    def array(self, name: str) -> CheckedArray:
        """A dataset, mapped; read into RAM where its layout forbids that.

        Raises ValueError unless it holds numbers, and all of them in this file.
        """
        dataset = self.file[name]
        require_numbers(dataset, self.path)
        offset = dataset.id.get_offset()
        if offset is None or 0 in dataset.shape:
            # Such as what is compressed, which is not written here: it is of the header's bytes.
            return CheckedArray(np.asarray(dataset[...]))
        if self.sums is None or self.sums.content is None:
            mapped = np.memmap(self.path, dataset.dtype, "r", offset, dataset.shape)
            return CheckedArray(mapped)
        size = dataset.size * dataset.dtype.itemsize
        blocks = self.sums.blocks(name, offset, size)
        content = self.sums.content[offset : offset + size]
        return CheckedArray(content.view(dataset.dtype).reshape(dataset.shape), blocks)

    def strings(self, name: str) -> StringColumn:
        """The column of strings in the group `name`. Raises ValueError if it is none."""
        utf8, offsets = self.array(f"{name}/utf8"), self.array(f"{name}/offsets")
        is_column = len(utf8.shape) == len(offsets.shape) == 1 and len(offsets) > 0
        if not is_column or utf8.dtype != np.uint8 or offsets.dtype != np.int64:
            raise ValueError(f"its {name} are no column of strings")
        return CheckedColumn(utf8, offsets, f"the column {name} of {self.path}")

    def named(self, name: str) -> dict[str, StringColumn]:
        """The columns in the group `name`, by their own names; none if it is not there."""
        if name not in self.file:
            return {}
        names = parse_json(texts_of(self.file[name], self.path, ("names",))["names"])
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise ValueError(f"the names of its {name} are no list of strings")
        return {one: self.strings(f"{name}/{place}") for place, one in enumerate(names)}


class CheckedArray:
    """An array in a file, of which the parts that are asked for are checked first."""

    def __init__(self, array: NDArray[Any], blocks: Blocks | None = None) -> None:
        self._array, self._blocks = array, blocks
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes
        self._width = array[:1].nbytes

    def __len__(self) -> int:
        return len(self._array)

    @property
    def mapped(self) -> bool:
        """Whether it lies in the file, not in RAM."""
        return isinstance(self._array, np.memmap)

    def all(self) -> NDArray[Any]:
        """All of it, checked. Raises UserError if it is damaged."""
        return self[:]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Consecutive rows, checked. Raises UserError if they are damaged."""
        start, stop, _ = rows.indices(len(self))
        if self._blocks is not None and start < stop:
            self._blocks.check(start * self._width, stop * self._width)
        return self._array[start:stop]

    def take(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Copies of the rows at `rows`, checked. Raises UserError if they are damaged."""
        if self._blocks is not None:
            places = np.asarray(rows, dtype=np.int64)
            places = np.where(places < 0, places + len(self), places)
            inside = places[(places >= 0) & (places < len(self))]
            self._blocks.check_each(inside * self._width, self._width)
        return np.take(self._array, rows, axis=0)


class CheckedColumn(StringColumn):
    """A column of strings in a file, of which the parts that are asked for are checked first."""

    def __init__(self, utf8: CheckedArray, offsets: CheckedArray, source: str) -> None:
        self._utf8, self._offsets, self.source = utf8, offsets, source

    @property
    def utf8(self) -> NDArray[np.uint8]:  # type: ignore[override]  # those of others are attributes
        """All bytes, checked."""
        return self._utf8.all()

    @property
    def offsets(self) -> NDArray[np.int64]:  # type: ignore[override]
        """All positions, checked."""
        return self._offsets.all()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def _content(self, row: int) -> bytes:
        start, stop = self._offsets[row : row + 2].tolist()
        return bytes(self._utf8[start:stop])


def told_fingerprint(file: Any, path: Path) -> str | None:
    """The fingerprint that an open h5py file names as that of a memory, if any."""
    return texts_of(file, path, ("fingerprint",)).get("fingerprint")


def _data(file: Any) -> list[Data]:
    """Where the values of all datasets lie."""
    found: list[Data] = []

    def visit(name: str, item: Any) -> None:
        place = item.id.get_offset() if hasattr(item, "dtype") else None
        if place is not None:
            found.append(Data(name, place, item.id.get_storage_size()))

    file.visititems(visit)
    return found
