"""What is fuzzed: a reader, small files that it can read, and what it may say of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from features.errors import UserError

MEGABYTE = 1 << 20


def nothing(folder: Path) -> None:
    """Nothing lies beside the file."""
    del folder


@dataclass(frozen=True)
class Target:
    """A reader of one file.

    file: where the bytes are written, below an empty folder; its suffix says what they are.
    read: reads that file, and does with what it holds what commands would do.
    seeds: whole files, made by the project's own writers where it has some; gets a folder.
    beside: writes what else must lie in the folder.
    form: of its structure, a name in `tests.fuzz.mutations.FORMS`.
    allowed: the errors that the reader documents; all others are bugs.
    seconds: of processor time that an input may take. memory: bytes that the process may grow by.
    weight: share of the inputs of a long run: readers that are fast, or that have more to get
    wrong, get more.
    """

    name: str
    file: str
    read: Callable[[Path], object]
    seeds: Callable[[Path], Iterable[bytes]]
    beside: Callable[[Path], None] = nothing
    form: str = "bytes"
    allowed: tuple[type[Exception], ...] = (UserError,)
    seconds: float = 5.0
    memory: int = 512 * MEGABYTE
    weight: float = 1.0
