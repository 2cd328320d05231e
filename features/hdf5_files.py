"""HDF5 files whose disk may fail, and whose process may be stopped, without a crash.

HDF5 cannot bear that a write fails: it tries again as it closes and as the process ends, and then
crashes (HDF5 2.0). So it writes through an object that takes everything, and tells at the end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any


@contextmanager
def writing_hdf5(path: Path, *, libver: str | None = None) -> Iterator[tuple[Any, int]]:
    """A new h5py file at `path`, and the descriptor of the file below it, closed with the block.

    Raises OSError if the disk did not take all of it: what is at `path` is then of no use.
    """
    import h5py

    with path.open("w+b", buffering=0) as raw, _signals_between_writes():
        sink = _Sink(raw.fileno())
        with h5py.File(sink, "w", libver=libver) as file:
            yield file, sink.descriptor
        if sink.error is not None:
            raise sink.error


class _Sink:
    """What HDF5 writes to: after the first error, nothing is written."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.error: OSError | None = None
        self.place = 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        end = os.fstat(self.descriptor).st_size if whence == os.SEEK_END else 0
        self.place = place + end
        return self.place

    def tell(self) -> int:
        return self.place

    def write(self, data: memoryview) -> int:
        left = memoryview(data).cast("B")
        try:
            while left and self.error is None:
                count = os.pwrite(self.descriptor, left, self.place)
                self.place += count
                left = left[count:]
        except OSError as error:
            self.error = error
        return len(data)

    def readinto(self, buffer: memoryview) -> int:
        into = memoryview(buffer).cast("B")
        found = b"" if self.error else os.pread(self.descriptor, len(into), self.place)
        into[:] = found.ljust(len(into), b"\0")
        return len(into)

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def truncate(self, size: int) -> int:
        try:
            if self.error is None:
                os.ftruncate(self.descriptor, size)
        except OSError as error:
            self.error = error
        return size

    def flush(self) -> None:
        """Nothing is kept back."""


_CODES = {one.__code__ for one in vars(_Sink).values() if isinstance(one, FunctionType)}


@contextmanager
def _signals_between_writes() -> Iterator[None]:
    """Handlers of signals may raise, but not where HDF5 waits for a write; then they come after."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which alone runs handlers
        return
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {
        int(number): handler
        for number in signal.valid_signals()
        if callable(handler := signal.getsignal(number))
    }
    late: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code in _CODES:
            late.append(number)
        else:
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is handle:  # a handler may have set another
                signal.signal(number, handler)
        for number in late:
            signal.raise_signal(number)
