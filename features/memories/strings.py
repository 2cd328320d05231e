"""A column of strings in an HDF5 file that can be memory-mapped.

Laid out as Apache Arrow does: one run of UTF-8 bytes and n + 1 offsets into it. Reading
one of ten million ids costs a page of memory, and no string is padded or truncated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from features.errors import UserError
from features.hdf5 import require_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class StringColumn(Sequence[str]):
    """n strings over a buffer of UTF-8 bytes and n + 1 int64 offsets."""

    def __init__(
        self, utf8: NDArray[np.uint8], offsets: NDArray[np.int64], source: str = "a column"
    ) -> None:
        """source: where they are from, for the error that one of them is no text."""
        self.utf8 = utf8
        self.offsets = offsets
        self.source = source

    @classmethod
    def of(cls, strings: Iterable[str]) -> StringColumn:
        """The column that holds `strings`."""
        encoded = [string.encode(errors="surrogatepass") for string in strings]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(one) for one in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return self._decoded(bytes(self.utf8[self.offsets[row] : self.offsets[row + 1]]))

    def __iter__(self) -> Iterator[str]:
        buffer = bytes(self.utf8)
        bounds = self.offsets.tolist()
        for start, stop in pairwise(bounds):
            yield self._decoded(buffer[start:stop])

    def _decoded(self, content: bytes) -> str:
        # Lone surrogates are legal in JSON, and stand in file names for bytes that are not UTF-8.
        try:
            return content.decode(errors="surrogatepass")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.source} is damaged, it holds what is not UTF-8 text ({error}): make or "
                "copy the file again"
            ) from error


def write_strings(file: Any, name: str, column: StringColumn) -> None:
    """Store `column` as the group `name` of an open h5py file."""
    group = file.create_group(name)
    group.create_dataset("utf8", data=column.utf8)
    group.create_dataset("offsets", data=column.offsets)


def read_strings(file: Any, name: str, path: Path) -> StringColumn:
    """The column in the group `name` of an open h5py file at `path`, memory-mapped.

    Raises ValueError if it is none.
    """
    utf8, offsets = (map_dataset(file[name][part], path) for part in ("utf8", "offsets"))
    if (
        (utf8.ndim, offsets.ndim) != (1, 1)
        or utf8.dtype != np.uint8
        or offsets.dtype != np.int64
        or not len(offsets)
    ):
        raise ValueError(f"its {name} are no column of strings")
    return StringColumn(utf8, offsets, f"the column {name} of {path}")


def write_named(file: Any, name: str, columns: Mapping[str, StringColumn]) -> None:
    """Store columns of any names as the group `name` of an open h5py file; none, if there are none.

    Names may have slashes, which HDF5 would take for groups, so they stand in an attribute.
    """
    if columns:
        group = file.create_group(name)
        group.attrs["names"] = json.dumps(list(columns))
        for place, column in enumerate(columns.values()):
            write_strings(group, str(place), column)


def read_named(file: Any, name: str, path: Path) -> dict[str, StringColumn]:
    """The columns in the group `name` of an open h5py file at `path`, memory-mapped."""
    if name not in file:
        return {}
    names = json.loads(file[name].attrs["names"])
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ValueError(f"the names of its {name} are no list of strings")
    return {one: read_strings(file[name], str(place), path) for place, one in enumerate(names)}


def map_dataset(dataset: Any, path: Path) -> NDArray[Any]:
    """A dataset as a read-only memory map; copied into RAM where its layout forbids mapping.

    Raises ValueError unless it holds numbers, and all of them in this file.
    """
    require_numbers(dataset, path)
    offset = dataset.id.get_offset()
    if offset is None or 0 in dataset.shape:
        return np.asarray(dataset[...])
    return np.memmap(path, dataset.dtype, mode="r", offset=offset, shape=dataset.shape)
