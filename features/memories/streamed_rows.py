"""Rows of memories that are read from their files when they are asked for, and never all held.

Pages of a memory map that were touched count as memory of the process until the system wants them
back; what is read into a small buffer does not. Reads name their place in the file, so that
threads and forked processes share a descriptor without disturbing each other.

Axes: n rows of all memories together, b of them, d dimensions.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from features.errors import UserError
from features.memories.container import told_fingerprint
from features.memories.memory import DAMAGED, Memory
from features.room import free_bytes
from features.sums import find_sums

# Values that are read and made unit at a time: few enough for the cache, and for torch to take one
# core. Several would wait for each other at every part, for ten times as long where others compute.
_CACHED = 1 << 15
_BLOCK = 4096  # rows that a mean is made of at a time
_SENT = 1 << 24  # values that are sent to another device at a time
_AHEAD = 1 << 18  # bytes that the system is asked for at once; of more it takes a part
_SHORTEST = 1e-12  # norm, as torch's normalize has it


class StreamedRows:
    """Unit rows of memories that follow one another, as float32 on `device`.

    Consecutive rows are read at the speed of the file, random rows one by one. The files that
    were open when this was made are read to the end, also if others take their names. Picklable,
    and safe to share between threads and forked or spawned processes.
    """

    def __init__(self, memories: Sequence[Memory], device: torch.device | str = "cpu") -> None:
        """memories: at least one; of the same dimension. Raises UserError if a file is gone."""
        self.memories = tuple(memories)
        self.device = torch.device(device)
        self.shape = torch.Size((sum(map(len, self.memories)), self.memories[0].dimension))
        # What does not fit into the page cache would only drive out what others have there.
        files = [part for memory in self.memories for part in memory.parts]
        keep = sum(one.nbytes for one in files) < free_bytes(torch.device("cpu"))
        self._files = [_File(file, keep=keep) for file in files]
        self._starts = np.cumsum([0, *map(len, files)])

    def __reduce__(self) -> tuple[type[StreamedRows], tuple[tuple[Memory, ...], str]]:
        return StreamedRows, (self.memories, str(self.device))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take on the device."""
        return self.shape.numel() * torch.float32.itemsize

    def __getitem__(self, rows: slice) -> Float[Tensor, "b d"]:
        """Consecutive rows, or every so many."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            return self.index_select(0, torch.from_numpy(np.arange(start, stop, step)))
        made = torch.empty(max(0, stop - start), self.shape[1], device=self.device)
        for file, first in zip(self._files, self._starts[:-1].tolist(), strict=True):
            begin, end = max(start, first), min(stop, first + file.count)
            if begin < end:
                file.read(begin - first, made[begin - start : end - start])
        return made

    def index_select(self, dim: int, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """The rows at `index`, which may repeat and come in any order; `dim` is 0."""
        if dim != 0:
            raise ValueError(f"rows are along dimension 0, not {dim}")
        rows = index.cpu().numpy()
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        wanted, places = np.unique(rows, return_inverse=True)  # in the order of the disk
        made = torch.empty(len(wanted), self.shape[1], device=self.device)
        bounds = np.searchsorted(wanted, self._starts)
        for place, file in enumerate(self._files):
            begin, end = bounds[place : place + 2]
            if begin < end:
                file.gather(wanted[begin:end] - self._starts[place], made[begin:end])
        return made.index_select(0, torch.from_numpy(places.reshape(-1)).to(self.device))

    def blocks(self, rows: int) -> Iterator[Float[Tensor, "b d"]]:
        """All rows, so many at a time."""
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    @cached_property
    def mean(self) -> Float[Tensor, " d"]:
        """Of all rows, which are read for it once."""
        total = sum(block.sum(dim=0).cpu().double() for block in self.blocks(_BLOCK))
        assert isinstance(total, Tensor)
        return (total / len(self)).float().to(self.device)


class _File:
    """The embeddings of one memory."""

    def __init__(self, memory: Memory, *, keep: bool) -> None:
        """keep: leave what was read in the page cache."""
        self.path, self.count, self.keep = memory.path, len(memory), keep
        self.dimension, self.dtype = memory.dimension, np.dtype(memory.header.dtype)
        self.width = self.dimension * self.dtype.itemsize
        # Memories whose layout cannot be mapped are in RAM as they are.
        self.held = None if memory.mapped else memory.embeddings
        if self.held is None:
            self.descriptor, self.offset = _open(memory)
            weakref.finalize(self, os.close, self.descriptor)
            sums = find_sums(self.descriptor, self.path, DAMAGED, mapped=False)
            size = self.count * self.width
            self.sums = None if sums is None else sums.blocks("embeddings", self.offset, size)

    def read(self, first: int, made: Float[Tensor, "b d"]) -> None:
        """Fill `made` with the unit rows from `first` on."""
        for start, buffer in self._buffers(made):
            if self.held is not None:
                buffer[...] = self.held[first + start : first + start + len(buffer)]
            else:
                place, places = (first + start) * self.width, buffer.reshape(-1).view(np.uint8).data
                if self.sums is not None:
                    self.sums.check(place, place + len(places))
                self._fill(places, self.offset + place)
            _unit(buffer, made[start : start + len(buffer)])
        if self.held is None:
            self._advise(self.offset + first * self.width, len(made) * self.width)

    def gather(self, rows: NDArray[np.intp], made: Float[Tensor, "b d"]) -> None:
        """Fill `made` with the unit rows at `rows`."""
        if self.held is None and self.sums is not None:
            self.sums.check_each(rows * self.width, self.width)
        for start, buffer in self._buffers(made):
            wanted = rows[start : start + len(buffer)]
            if self.held is not None:
                np.take(self.held, wanted, axis=0, out=buffer)
            else:
                places = buffer.reshape(-1).view(np.uint8).data
                for place, row in enumerate(wanted.tolist()):
                    offset, here = self.offset + row * self.width, place * self.width
                    self._fill(places[here : here + self.width], offset)
            _unit(buffer, made[start : start + len(buffer)])

    def _buffers(self, made: Tensor) -> Iterator[tuple[int, NDArray[Any]]]:
        """A buffer for each part of `made`, the same one again and again, and where it begins."""
        values = _CACHED if made.device.type == "cpu" else _SENT
        step = max(1, values // self.dimension)
        buffer = np.empty((min(step, len(made)), self.dimension), self.dtype)
        for start in range(0, len(made), step):
            yield start, buffer[: len(made) - start]

    def _fill(self, left: memoryview, offset: int) -> None:
        while left:
            count = _read(self.descriptor, left, offset)
            if not count:
                raise UserError(
                    f"{self.path} ends before its last embeddings: it was written to while it was "
                    "read; make it again with `mcr extract`"
                )
            left, offset = left[count:], offset + count

    def _advise(self, offset: int, length: int) -> None:
        """Tell the system what is read next, and what will not be read again soon."""
        if not hasattr(os, "posix_fadvise"):
            return
        if not self.keep:
            os.posix_fadvise(self.descriptor, offset, length, os.POSIX_FADV_DONTNEED)
        end = self.offset + self.count * self.width
        for start in range(offset + length, min(end, offset + 2 * length), _AHEAD):
            os.posix_fadvise(self.descriptor, start, _AHEAD, os.POSIX_FADV_WILLNEED)


def _open(memory: Memory) -> tuple[int, int]:
    """A descriptor of the file that holds the memory, and where its embeddings begin."""
    import h5py

    try:
        with h5py.File(memory.path, "r") as file:
            same = told_fingerprint(file, memory.path) == memory.fingerprint
            offset = int(file["embeddings"].id.get_offset())
            descriptor = os.dup(file.id.get_vfd_handle())
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{memory.path} cannot be read any more ({' '.join(str(error).split())}): check the "
            "file and run the command again"
        ) from error
    if not same:
        os.close(descriptor)
        raise UserError(
            f"{memory.path} was replaced by another memory after it was opened: run the command "
            "again"
        )
    return descriptor, offset


def _unit(stored: NDArray[Any], made: Float[Tensor, "b d"]) -> None:
    """Write the rows to `made` as `Memory.tensor` has them, converted where they are wanted."""
    made.copy_(torch.from_numpy(stored).to(made.device))
    made.div_(torch.linalg.vector_norm(made, dim=1, keepdim=True).clamp_min_(_SHORTEST))


def _read(descriptor: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    content = os.pread(descriptor, len(buffer), offset)
    buffer[: len(content)] = content
    return len(content)
