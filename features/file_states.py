"""Whether files have changed, told by sizes and times without reading them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

GONE = (-1, -1)


def file_state(path: str | Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds; -1 and -1 if it is not there."""
    try:
        state = os.stat(path)  # noqa: PTH116
    except OSError:
        return GONE
    return state.st_size, state.st_mtime_ns


def digest_of(states: ArrayLike) -> str:
    """One hash of the states (n, 2) of several files."""
    return str(xxhash.xxh3_128_hexdigest(np.ascontiguousarray(states, dtype="<i8").data))


def content_state(path: str | Path) -> str:
    """A hash of a small file's content, the same for its copies."""
    return str(xxhash.xxh3_128_hexdigest(Path(path).read_bytes()))


def path_state(path: str | Path) -> str:
    """A hash of a file's state, or of the names and states of all files of a folder."""
    if not Path(path).is_dir():
        return digest_of([file_state(path)])
    digest = xxhash.xxh3_128()
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            file = os.path.join(folder, name)  # noqa: PTH118
            size, changed = file_state(file)
            told = f"{os.path.relpath(file, path)} {size} {changed}\n"
            digest.update(told.encode(errors="surrogatepass"))
    return str(digest.hexdigest())
