"""A column of strings in an HDF5 file that can be memory-mapped.

Laid out as Apache Arrow does: one run of UTF-8 bytes and n + 1 offsets into it. Reading
one of ten million ids costs a page of memory, and no string is padded or truncated.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from features.errors import UserError
from features.hdf5 import put_text

if TYPE_CHECKING:
    from numpy.typing import NDArray


_ITERATED = 65_536  # strings whose bytes are copied at a time


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
        builder = StringBuilder()
        for string in strings:
            builder.append(string)
        return builder.column()

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
        return self._decoded(self._content(row % len(self)))

    def _content(self, row: int) -> bytes:
        return bytes(self.utf8[self.offsets[row] : self.offsets[row + 1]])

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _ITERATED):
            offsets = self.offsets[first : first + _ITERATED + 1]
            buffer = bytes(self.utf8[offsets[0] : offsets[-1]])
            for start, stop in pairwise((offsets - offsets[0]).tolist()):
                yield self._decoded(buffer[start:stop])

    def add_to(self, digest: Any) -> None:
        """Update a hash with the strings."""
        digest.update(np.ascontiguousarray(self.offsets).data)
        digest.update(np.ascontiguousarray(self.utf8).data)

    def part(self, start: int, stop: int) -> StringColumn:
        """The strings from `start` to `stop`, over the same bytes."""
        offsets = self.offsets[start : max(start, stop) + 1]
        return StringColumn(self.utf8[offsets[0] : offsets[-1]], offsets - offsets[0])

    def take(self, rows: NDArray[np.intp]) -> StringColumn:
        """The strings at `rows`, as a copy."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        utf8 = np.empty(offsets[-1], dtype=np.uint8)
        for first in range(0, len(rows), _ITERATED):
            part = slice(first, first + _ITERATED)
            begin, end = offsets[first], offsets[min(first + _ITERATED, len(rows))]
            shift = np.repeat(starts[part] - offsets[:-1][part], lengths[part])
            utf8[begin:end] = self.utf8[np.arange(begin, end) + shift]
        return StringColumn(utf8, offsets)

    def _decoded(self, content: bytes) -> str:
        # Lone surrogates are legal in JSON, and stand in file names for bytes that are not UTF-8.
        try:
            return content.decode(errors="surrogatepass")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.source} is damaged, it holds what is not UTF-8 text ({error}): make or "
                "copy the file again"
            ) from error


def same(one: StringColumn, other: StringColumn) -> bool:
    """Whether two columns hold the same strings."""
    return np.array_equal(one.offsets, other.offsets) and np.array_equal(one.utf8, other.utf8)


class StringBuilder:
    """Gathers strings one at a time, in little more room than their bytes."""

    def __init__(self) -> None:
        self._utf8 = bytearray()
        self._ends = array("q", [0])

    def append(self, string: str) -> None:
        """Add a string at the end."""
        self._utf8 += string.encode(errors="surrogatepass")
        self._ends.append(len(self._utf8))

    def column(self) -> StringColumn:
        """The strings so far, over the builder's own buffer: append no more."""
        utf8 = np.frombuffer(self._utf8, dtype=np.uint8)
        return StringColumn(utf8, np.frombuffer(self._ends, dtype=np.int64))


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
        put_text(group, "names", json.dumps(list(columns)))
        for place, column in enumerate(columns.values()):
            write_strings(group, str(place), column)
