"""Checksums of a file's content, behind that content, by which damage is found before it is used.

Some library wrote the content, and reads it as if nothing came behind. Its long runs of data have
a checksum for each block, so that a reader can check what it touches and no more. All other bytes,
the header, have one together, which is checked before that library sees them.

    content | digests, uint64 | JSON | bytes of each, XXH3-64 of both, 16 bytes that name the form

The JSON says how long the content is, and where its data lie: `[name, start, bytes]` of each. The
digests are XXH3-64, little-endian: of the header, then of the blocks of the data in their order.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from features.errors import UserError
from features.parsing import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Bytes of data with one checksum: what a processor's cache holds, so that it is read there after.
BLOCK = 1 << 20
_FOOTER = struct.Struct("<QQQ16s")
_FORM = b"mcr-bridge sums1"


class Data(NamedTuple):
    """A run of data in a file. start, size: in bytes."""

    name: str
    start: int
    size: int

    @property
    def blocks(self) -> int:
        """How many checksums it has."""
        return -(-self.size // BLOCK)


class BlockDigests:
    """Checksums of data that come piece by piece, as they are written."""

    def __init__(self) -> None:
        self._finished: list[int] = []
        self._digest, self._filled = xxhash.xxh3_64(), 0

    def update(self, content: memoryview) -> None:
        """Take the bytes that follow."""
        left = content.cast("B")
        while left:
            part = left[: BLOCK - self._filled]
            self._digest.update(part)
            self._filled += len(part)
            left = left[len(part) :]
            if self._filled == BLOCK:
                self._finish()

    def all(self) -> list[int]:
        """Of all blocks, the last of which may be shorter."""
        if self._filled:
            self._finish()
        return self._finished

    def _finish(self) -> None:
        self._finished.append(self._digest.intdigest())
        self._digest, self._filled = xxhash.xxh3_64(), 0


def append_sums(
    path: Path, data: Sequence[Data], known: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Write checksums behind the content of `path`.

    data: that do not overlap. known: checksums of the blocks of some of them, by name; the others
    are read.
    """
    known = known or {}
    data = sorted((one for one in data if one.size), key=lambda one: one.start)
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        digests = [_header_digest(file.fileno(), data, size)]
        for one in data:
            digests += known.get(one.name) or _read_digests(file.fileno(), one)
        told = json.dumps({"size": size, "data": data}).encode()
        table = np.array(digests, dtype="<u8").tobytes() + told
        digest = xxhash.xxh3_64_intdigest(table)
        file.seek(size)
        file.write(table + _FOOTER.pack(8 * len(digests), len(told), digest, _FORM))


def find_sums(descriptor: int, path: Path, remedy: str, *, mapped: bool) -> Sums | None:
    """The checksums of the open file `path`, if there are any, with its header checked.

    The arguments are those of `Sums`. Raises UserError if the header or the table is damaged.
    """
    end = os.fstat(descriptor).st_size
    footer = os.pread(descriptor, _FOOTER.size, max(0, end - _FOOTER.size))
    if len(footer) < _FOOTER.size or not footer.endswith(_FORM):
        return None
    return Sums(descriptor, path, remedy, footer, mapped=mapped)


class Sums:
    """The checksums of a file that is open, and what of it was checked.

    The header is checked when this is made.
    """

    def __init__(
        self, descriptor: int, path: Path, remedy: str, footer: bytes, *, mapped: bool
    ) -> None:
        """descriptor: of the file, which stays the caller's; without `mapped` it is read from.

        mapped: read through a memory map, `content`, rather than into a buffer. Raises UserError,
        with what is damaged and the remedy.
        """
        self.path, self.remedy, self.descriptor = path, remedy, descriptor
        size, self.data, self._digests = self._table(footer)
        self.content: NDArray[np.uint8] | None = None
        if mapped:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                self.content = np.memmap(file, np.uint8, mode="r", shape=(size,))
        if _header_digest(descriptor, list(self.data.values()), size) != self._digests[0]:
            raise self.damaged("its header is not what was written")

    def blocks(self, name: str, start: int, size: int) -> Blocks:
        """What checks the data called `name`. Raises UserError if they do not lie there."""
        data = self.data.get(name)
        if data is None or (data.start, data.size) != (start, size):
            raise self.damaged(f"its {name} are not where its checksums say")
        counts = [one.blocks for one in self.data.values()]
        first = 1 + dict(zip(self.data, accumulate([0, *counts]), strict=False))[name]
        return Blocks(self, data, self._digests[first : first + data.blocks])

    def damaged(self, what: str) -> UserError:
        """The error that says so."""
        return UserError(f"{self.path} is damaged, {what}: {self.remedy}")

    def read(self, start: int, stop: int) -> Any:
        """The bytes between two places."""
        if self.content is not None:
            return self.content[start:stop]
        return os.pread(self.descriptor, stop - start, start)

    def _table(self, footer: bytes) -> tuple[int, dict[str, Data], list[int]]:
        """Bytes of the content, the data in it, and the digests."""
        length, rest, wanted, _ = _FOOTER.unpack(footer)
        start = os.fstat(self.descriptor).st_size - len(footer) - rest - length
        table = os.pread(self.descriptor, length + rest, start) if start >= 0 else b""
        if len(table) != length + rest or xxhash.xxh3_64_intdigest(table) != wanted:
            raise self.damaged("the table of its checksums is not what was written")
        try:
            told = parse_json(table[length:])
            size = int(told["size"])
            data = [Data(str(name), int(at), int(count)) for name, at, count in told["data"]]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self.damaged("the table of its checksums cannot be read") from error
        ends = [0, *(one.start + one.size for one in data)]
        apart = all(one.size > 0 and one.start >= end for one, end in zip(data, ends, strict=False))
        counted = length == 8 * (1 + sum(one.blocks for one in data))
        if not (apart and counted and ends[-1] <= size == start):
            raise self.damaged("the table of its checksums is of another file")
        digests = np.frombuffer(table[:length], "<u8").tolist()
        return size, {one.name: one for one in data}, digests


class Blocks:
    """The blocks of one run of data, each checked when it is first touched."""

    def __init__(self, sums: Sums, data: Data, digests: Sequence[int]) -> None:
        self._sums, self._data, self._digests = sums, data, digests
        self._left = bytearray(b"\1" * data.blocks)  # 1 where a block was not checked yet

    def check(self, start: int, stop: int) -> None:
        """Check the bytes from `start` to `stop` of the data. Raises UserError if damaged."""
        block, last = start // BLOCK, -(-stop // BLOCK)
        while (block := self._left.find(1, block, last)) >= 0:
            self._check(block)

    def check_each(self, starts: NDArray[np.integer[Any]], size: int) -> None:
        """Check so many bytes from each place in the data on. Raises UserError if damaged."""
        if self._left.find(1) < 0 or not size:
            return
        count = len(self._left) + 1
        begun = np.bincount(starts // BLOCK, minlength=count)
        ended = np.bincount((starts + (size - 1)) // BLOCK + 1, minlength=count)
        touched = (begun - ended).cumsum()[:-1]
        for block in np.flatnonzero(touched * np.frombuffer(self._left, np.uint8)).tolist():
            self._check(block)

    def _check(self, block: int) -> None:
        name, first, size = self._data
        start, stop = block * BLOCK, min(size, (block + 1) * BLOCK)
        content = self._sums.read(first + start, first + stop)
        if xxhash.xxh3_64_intdigest(content) != self._digests[block]:
            raise self._sums.damaged(
                f"bytes {start:,} to {stop:,} of its {name} are not what was written"
            )
        self._left[block] = 0


def _header_digest(descriptor: int, data: Sequence[Data], size: int) -> int:
    digest = xxhash.xxh3_64()
    starts = [0, *(one.start + one.size for one in data)]
    for start, stop in zip(starts, [*(one.start for one in data), size], strict=True):
        for block in _read(descriptor, start, stop):
            digest.update(block)
    return digest.intdigest()


def _read_digests(descriptor: int, data: Data) -> list[int]:
    blocks = _read(descriptor, data.start, data.start + data.size)
    return [xxhash.xxh3_64_intdigest(block) for block in blocks]


def _read(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    for place in range(start, stop, BLOCK):
        yield os.pread(descriptor, min(BLOCK, stop - place), place)
