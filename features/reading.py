"""Reading a large part of a file into RAM as fast as the system gives it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.device import cpu_count
from features.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 1 << 24  # bytes read at a time by a thread
_MOST_THREADS = 8  # more do not make a disk or the memory faster


def read_into(array: NDArray[Any], path: Path, offset: int) -> None:
    """Fill a contiguous array with the bytes of the file at `path` from `offset` on.

    Opens the file anew, so that forked and spawned readers share no position in it. Raises
    UserError if the file ends before.
    """
    left = array.reshape(-1).view(np.uint8).data
    starts = range(0, len(left), _PIECE)
    with path.open("rb", buffering=0) as file:

        def read(start: int) -> None:
            _fill(file.fileno(), left[start : start + _PIECE], offset + start, path)

        if not hasattr(os, "preadv"):  # Windows, and macOS before 11
            file.seek(offset)
            while left:
                count = file.readinto(left)
                if not count:
                    raise _too_short(path)
                left = left[count:]
        elif len(starts) == 1:
            read(0)
        else:
            with ThreadPoolExecutor(min(_MOST_THREADS, cpu_count(), len(starts))) as pool:
                list(pool.map(read, starts))


def _fill(descriptor: int, piece: memoryview, offset: int, path: Path) -> None:
    while piece:
        count = os.preadv(descriptor, [piece], offset)
        if not count:
            raise _too_short(path)
        piece, offset = piece[count:], offset + count


def _too_short(path: Path) -> UserError:
    return UserError(f"{path} is damaged: it ends before its embeddings do; make it again")
