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

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StringColumn(Sequence[str]):
    """n strings over a buffer of UTF-8 bytes and n + 1 int64 offsets."""

    def __init__(self, utf8: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.utf8 = utf8
        self.offsets = offsets

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
        return _decoded(self._content(row % len(self)))

    def _content(self, row: int) -> bytes:
        return bytes(self.utf8[self.offsets[row] : self.offsets[row + 1]])

    def __iter__(self) -> Iterator[str]:
        buffer = bytes(self.utf8)
        bounds = self.offsets.tolist()
        for start, stop in pairwise(bounds):
            yield _decoded(buffer[start:stop])


def _decoded(content: bytes) -> str:
    # Lone surrogates are legal in JSON, and stand in file names for bytes that are not UTF-8.
    return content.decode(errors="surrogatepass")


def write_strings(file: Any, name: str, column: StringColumn) -> None:
    """Store `column` as the group `name` of an open h5py file."""
    group = file.create_group(name)
    group.create_dataset("utf8", data=column.utf8)
    group.create_dataset("offsets", data=column.offsets)


def write_named(file: Any, name: str, columns: Mapping[str, StringColumn]) -> None:
    """Store columns of any names as the group `name` of an open h5py file; none, if there are none.

    Names may have slashes, which HDF5 would take for groups, so they stand in an attribute.
    """
    if columns:
        group = file.create_group(name)
        group.attrs["names"] = json.dumps(list(columns))
        for place, column in enumerate(columns.values()):
            write_strings(group, str(place), column)
