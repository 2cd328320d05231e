"""Columns of strings, joined and cut without Python strings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray


_BLOCK = 1 << 16  # numbers written at a time


def join(parts: Sequence[StringColumn]) -> StringColumn:
    """The strings of all parts, one part after another."""
    if len(parts) == 1:
        return parts[0]
    lengths = [np.diff(part.offsets) for part in parts]
    return _column(
        np.concatenate([part.utf8 for part in parts] or [np.zeros(0, np.uint8)]),
        np.concatenate([*lengths, np.zeros(0, np.int64)]),
    )


def stored_column(name: str, path: Path, utf8: Any, offsets: Any) -> StringColumn:
    """The column that two arrays of a file hold. Raises UserError if they do not fit together."""
    if (
        (utf8.ndim, offsets.ndim) != (1, 1)
        or (utf8.dtype, offsets.dtype) != (np.uint8, np.int64)
        or not len(offsets)
        or (offsets[0], offsets[-1]) != (0, len(utf8))
        or (np.diff(offsets) < 0).any()
        or not _is_text(utf8, offsets)
    ):
        raise UserError(f"the column {name} of {path} is damaged: export it again")
    return StringColumn(utf8, offsets)


def split_lines(text: bytes) -> StringColumn:
    """The lines of a text; a line break at its end starts no further line."""
    characters = np.frombuffer(text.replace(b"\r\n", b"\n"), dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    if len(characters) and characters[-1] != ord("\n"):
        ends = np.append(ends, len(characters))
    return _column(
        characters[characters != ord("\n")], np.diff(ends, prepend=-1).astype(np.int64) - 1
    )


def join_lines(column: StringColumn) -> bytes:
    """The strings as lines of UTF-8, each ended by a line break; they must have none inside."""
    text = np.empty(len(column.utf8) + len(column), dtype=np.uint8)
    breaks = column.offsets[1:] + np.arange(len(column))
    inside = np.ones(len(text), dtype=bool)
    inside[breaks] = False
    text[inside], text[breaks] = column.utf8, ord("\n")
    return text.tobytes()


def numbers(count: int) -> StringColumn:
    """`0`, `1`, .. `count - 1` as text."""
    parts = []
    start = 0
    while start < count:
        digits = len(str(start))
        stop = min(count, 10**digits, start + _BLOCK)
        values = np.arange(start, stop, dtype=np.int64)[:, None]
        powers = 10 ** np.arange(digits - 1, -1, -1, dtype=np.int64)
        utf8 = (values // powers % 10 + ord("0")).astype(np.uint8).ravel()
        parts.append(_column(utf8, np.full(stop - start, digits, dtype=np.int64)))
        start = stop
    return join(parts)


def _is_text(utf8: NDArray[np.uint8], offsets: NDArray[np.int64]) -> bool:
    """Whether every string is UTF-8, with surrogates as in `features.memories.strings`."""
    starts = utf8[offsets[offsets < len(utf8)]]
    try:
        utf8.tobytes().decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return False
    return not (starts & 0xC0 == 0x80).any()  # none begins inside a character


def _column(utf8: NDArray[np.uint8], lengths: NDArray[np.int64]) -> StringColumn:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return StringColumn(utf8, offsets)
