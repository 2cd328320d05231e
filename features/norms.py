"""Norms of rows, without making float32 copies of half-precision arrays.

NumPy converts float16 element by element, which takes ten times as long as reading the file.
A float16's bits, shifted to a float32's place, are its magnitude times 2**-112; this is exact,
also for subnormal numbers, and runs as vector instructions.

Axes: b rows of a batch, d dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CACHED = 1 << 18  # values converted at a time
_HALF_TO_SINGLE_BITS = 13  # mantissa bits that float32 has more
_HALF_TO_SINGLE_SCALE = np.float32(2.0**112)  # difference of the exponents' biases
_NOT_FINITE = 65536.0  # what infinity's bits read as; NaN's read as more


def row_norms(batch: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """L2 norms of the rows (b, d), float32; NaN or infinite where a row has such values."""
    step = max(1, _CACHED // max(1, batch.shape[1]))
    parts = [batch[start : start + step] for start in range(0, len(batch), step)]
    of = _half_norms if batch.dtype == np.float16 and batch.flags.c_contiguous else _norms
    return np.concatenate([of(part) for part in parts] or [np.zeros(0, np.float32)])


def _norms(rows: NDArray[Any]) -> NDArray[np.float32]:
    wide = rows.astype(np.float32) if rows.dtype.itemsize < 4 else rows
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(_squares(wide)), dtype=np.float32)


def _squares(rows: NDArray[Any]) -> NDArray[Any]:
    """Squared norms, as products of matrices: twice as fast as einsum."""
    products: NDArray[Any] = np.matmul(rows[:, None, :], rows[:, :, None])
    return products[:, 0, 0]


def _half_norms(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    magnitude = np.bitwise_and(rows.view(np.uint16), 0x7FFF).astype(np.uint32)
    np.left_shift(magnitude, _HALF_TO_SINGLE_BITS, out=magnitude)
    single = magnitude.view(np.float32)
    np.multiply(single, _HALF_TO_SINGLE_SCALE, out=single)
    norms = np.sqrt(_squares(single))
    doubtful = np.flatnonzero(norms >= _NOT_FINITE)
    norms[doubtful] = _norms(rows[doubtful])
    return np.asarray(norms, dtype=np.float32)
