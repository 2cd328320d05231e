"""Inner products in the number format a device multiplies fastest, and how far off they are.

With a row r, a query q, and their rounded forms r' and q', for d dimensions,

    |q.r - fl(q'.r')| <= |q - q'| |r| + |q'| |r - r'| + c |q'| |r'|

by Cauchy-Schwarz and the standard bound of a sum of d products in float32 (Higham, Accuracy
and Stability of Numerical Algorithms, 2nd ed., eq. 3.5), with c = (2 d + 8) 2^-23: twice what
rounding to nearest takes, for processors that cut digits off, and for the scale of a row. On
top comes the rounding of the result to its own format, which is relative to it. The norms of
the differences are measured, not estimated.

Axes: n rows, b rows of a block, q queries, d dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from features.errors import UserError
from features.products import fast_dtype, product

CACHED = 1 << 17  # numbers that are converted at a time: more leave the cache, and take 4 times
# Half of the last place of a number that is just a power of two.
_RELATIVE = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24}
_HALF_SMALLEST = 2.0**-24  # absolute error of float16 results below its normal range
_HALF_LARGEST = 3e4
_NORM_RANGE = (1e-15, 1e18)  # squares that float32 can hold


@dataclass(frozen=True)
class FastRows:
    """Rows as they are multiplied.

    rows: (n, d). scales: (n,) float32 factors of the results, or None for ones.
    length: no row, scaled, is longer. residual: none is further from what it stands for.
    """

    rows: Float[Tensor, "n d"]
    scales: Float[Tensor, " n"] | None
    length: float
    residual: float


@dataclass(frozen=True)
class FastQueries:
    """Queries as they are multiplied.

    rows: (q, d). error: (q,) float64, how far their scores may be off, apart from `relative`,
    which is of the score that is found.
    """

    rows: Float[Tensor, "q d"]
    error: Float[Tensor, " q"]
    relative: float

    def floor(self, lowest: Float[Tensor, " q"]) -> Float[Tensor, " q"]:
        """The lowest fast score, float32, of a row whose score is `lowest` (float64) or more."""
        least = lowest - self.error
        least = torch.where(least >= 0, least / (1 + self.relative), least / (1 - self.relative))
        rounded = least.float()
        return torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))

    def least_score(self, fast: Float[Tensor, " q"]) -> Float[Tensor, " q"]:
        """The lowest score, float64, that a row with this fast score can have."""
        wide = fast.double()
        return wide - self.error - self.relative * wide.abs()


def score_dtype(device: torch.device) -> torch.dtype:
    """What scores are made in: bfloat16 on a CPU that multiplies it natively, else float32.

    Not on CUDA, whose bfloat16 products may be summed in bfloat16 and have no useful bound.
    """
    return fast_dtype(device) if device.type == "cpu" else torch.float32


def halves_are_fast(device: torch.device) -> bool:
    """Whether this CPU multiplies float16 rows with one query in place, summing in float32."""
    release = torch.__version__.split(".")[:2]
    recent = release[0].isdigit() and release[1].isdigit() and [*map(int, release)] >= [2, 8]
    capable = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return device.type == "cpu" and recent and capable


def fits_halves(rows: FastRows, queries: Float[Tensor, "q d"]) -> bool:
    """Whether no product of the stored rows and `queries` overflows float16."""
    longest = rows.length if rows.scales is None else 1 / float(rows.scales.min())
    return longest * float(torch.linalg.vector_norm(queries, dim=1).max()) < _HALF_LARGEST


def fast_rows(rows: Float[Tensor, "n d"], *, unit: bool, device: torch.device) -> FastRows:
    """All `rows` as a copy on `device` for many queries; without one if they are so already.

    unit: divide the rows by their norms. Raises UserError for rows that are not finite, or, if
    unit, that have no norm.
    """
    dtype = score_dtype(device)
    if rows.dtype == dtype and rows.device == device and not unit:
        _, length = _scales(rows, unit=False)
        return FastRows(rows, None, length, 0.0)
    made = torch.empty(rows.shape, dtype=dtype, device=device)
    length = residual = 0.0
    at_once = CACHED if device.type == "cpu" else 256 * CACHED
    step = max(1, at_once // rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step].to(device)
        wide = block.float() if block.dtype != torch.float64 else block
        scales, longest = _scales(wide, unit=unit)
        if scales is not None:
            wide = wide * scales[:, None]
        made[start : start + step] = wide
        length = max(length, longest)
        if wide.dtype != dtype:
            off = torch.linalg.vector_norm(wide - made[start : start + step], dim=1).max()
            residual = max(residual, float(off) * (1 + 1e-3))  # its own rounding
    return FastRows(made, None, length, residual)


def stored_rows(rows: Float[Tensor, "n d"], *, unit: bool) -> FastRows:
    """Rows as they are, scaled after they are multiplied. Raises UserError as `fast_rows`."""
    step = max(1, CACHED // rows.shape[1])
    parts = [
        _scales(rows[start : start + step].float(), unit=unit)
        for start in range(0, len(rows), step)
    ]
    scales = [part for part, _ in parts if part is not None]
    return FastRows(
        rows, torch.cat(scales) if scales else None, max(length for _, length in parts), 0.0
    )


def _scales(rows: Float[Tensor, "b d"], *, unit: bool) -> tuple[Tensor | None, float]:
    """One over the norms, if asked for, and a bound of the length of a scaled row."""
    norms = torch.linalg.vector_norm(
        rows, dim=1, dtype=torch.promote_types(rows.dtype, torch.float32)
    )
    shortest, longest = (float(one) for one in torch.aminmax(norms))
    if not math.isfinite(longest):
        raise UserError("the rows to search hold NaN or infinite values: remove them")
    if not unit:
        return None, longest * (1 + 1e-3)
    if not _NORM_RANGE[0] <= shortest <= longest <= _NORM_RANGE[1]:
        raise UserError(
            f"the rows to search have norms from {shortest:.3g} to {longest:.3g} and cannot be "
            "compared by cosine: remove those that are zero"
        )
    return norms.reciprocal(), 1 + 1e-3


def fast_queries(queries: Float[Tensor, "q d"], against: FastRows) -> FastQueries:
    """Queries for `against`. Raises UserError for queries that are not finite."""
    wide = queries.double().to(against.rows.device)
    rounded = wide.to(against.rows.dtype)
    off = torch.linalg.vector_norm(wide - rounded.double(), dim=1)
    lengths = torch.linalg.vector_norm(rounded.double(), dim=1)
    dimension = queries.shape[1]
    # Products below float32's normal range may be taken for zero.
    lost = dimension * 2.0**-126 * (1 + against.length + lengths)
    if rounded.dtype == torch.float16:
        highest = 1.0 if against.scales is None else float(against.scales.max())
        lost = lost + _HALF_SMALLEST * highest
    sums = (2 * dimension + 8) * 2.0**-23
    error = (
        off * against.length
        + lengths * (against.residual + sums * (against.length + against.residual))
        + lost
    )
    if against.rows.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        error = error + 2.0**-6 * lengths * against.length  # as if both sides were bfloat16
    if not bool(torch.isfinite(error).all()):
        raise UserError("the queries hold NaN, infinite or too large values: remove them")
    return FastQueries(rounded, error, _RELATIVE[rounded.dtype])


def scores(
    block: FastRows, start: int, stop: int, queries: FastQueries, out: Float[Tensor, "b q"]
) -> Float[Tensor, "b q"]:
    """Fast scores of the rows from `start` to `stop`, in their format, or float32 if scaled.

    out: room for them, of the format and at least as many rows; pages that the system has to
    find anew for every block cost a quarter of the time.
    """
    rows, out = block.rows[start:stop], out[: stop - start]
    if rows.dtype == torch.float16:
        for column, query in enumerate(queries.rows):
            out[:, column] = torch.mv(rows, query)
    elif rows.dtype == torch.float32:
        out = product(rows, queries.rows)
    else:
        torch.mm(rows, queries.rows.T, out=out)
    return out if block.scales is None else out.float() * block.scales[start:stop, None]
