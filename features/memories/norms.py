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

_CACHED = 1 << 19  # values converted at a time
_MAGNITUDE = 0x7FFF  # all bits of a half but its sign
_HALF_TO_SINGLE_BITS = 13  # mantissa bits that float32 has more
_HALF_TO_SINGLE_SCALE = np.float32(2.0**112)  # difference of the exponents' biases
_NOT_FINITE = 65536.0  # what infinity's bits read as; NaN's read as more
_LOWEST, _HIGHEST = 1e-15, 1e18  # norms between them have squares that float32 can hold


def row_norms(batch: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """L2 norms of the rows (b, d), precise to float32; NaN where a row has NaN or infinity.

    Rows of any finite size have a finite norm, the largest float64 at most.
    """
    step = max(1, _CACHED // max(1, batch.shape[1]))
    parts = [batch[start : start + step] for start in range(0, len(batch), step)]
    paired = batch.dtype == np.float16 and batch.flags.c_contiguous and batch.shape[1] % 2 == 0
    of = _half_norms if paired and batch.ctypes.data % 4 == 0 else _wide_norms
    found = np.concatenate([of(part) for part in parts] or [np.zeros(0)])
    norms: NDArray[np.float64] = found.astype(np.float64)
    extreme = np.flatnonzero(_extreme(norms))
    for start in range(0, len(extreme), step):
        rows = extreme[start : start + step]
        norms[rows] = _scaled_norms(batch[rows])
    return norms


def unit(rows: NDArray[np.floating[Any]], norms: NDArray[np.float64]) -> NDArray[Any]:
    """The rows (b, d) with norm 1, in float32 or float64; all are finite and none is zero.

    norms: what `row_norms` says of them.
    """
    wide = rows.astype(np.promote_types(rows.dtype, np.float32))
    extreme = np.flatnonzero(_extreme(norms))
    if len(extreme):
        wide[extreme] /= np.abs(wide[extreme]).max(axis=1, keepdims=True)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide


def _extreme(norms: NDArray[np.float64]) -> NDArray[np.bool_]:
    return ~((norms >= _LOWEST) & (norms <= _HIGHEST))  # true of NaN


def _scaled_norms(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Norms of rows whose squares overflow or vanish: each is divided by its largest value."""
    wide = rows.astype(np.float64)
    largest = np.abs(wide).max(axis=1, initial=0)
    with np.errstate(over="ignore", invalid="ignore"):
        wide /= np.where(largest == 0, 1, largest)[:, None]  # infinite values become NaN
        norms = largest * np.sqrt(_squares(wide))
    return np.asarray(np.minimum(norms, np.finfo(np.float64).max))


def _wide_norms(rows: NDArray[Any]) -> NDArray[Any]:
    wide = rows.astype(np.float32) if rows.dtype.itemsize < 4 else rows
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(_squares(wide)))


def _squares(rows: NDArray[Any]) -> NDArray[Any]:
    """Squared norms, as products of matrices: twice as fast as einsum."""
    products: NDArray[Any] = np.matmul(rows[:, None, :], rows[:, :, None])
    return products[:, 0, 0]


def _half_norms(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """Of rows of even length: two halves at a time, in the words of 32 bits that hold them."""
    words = rows.view(np.uint32)
    low = np.bitwise_and(words, _MAGNITUDE)
    np.left_shift(low, _HALF_TO_SINGLE_BITS, out=low)
    high = np.bitwise_and(words, _MAGNITUDE << 16)
    np.right_shift(high, 16 - _HALF_TO_SINGLE_BITS, out=high)
    squares = np.zeros(len(rows), np.float32)
    for single in (low.view(np.float32), high.view(np.float32)):
        np.multiply(single, _HALF_TO_SINGLE_SCALE, out=single)
        squares += _squares(single)
    norms: NDArray[np.float32] = np.sqrt(squares)
    doubtful = np.flatnonzero(norms >= _NOT_FINITE)
    norms[doubtful] = _wide_norms(rows[doubtful])
    return norms
