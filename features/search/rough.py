"""Inner products that are roughly right, several times faster than in float32.

In int8 where the processor multiplies bytes (AVX-512 VNNI) and torch has oneDNN's product for
them, otherwise in bfloat16 where that is fast, otherwise in float32. The error of int8 is about
0.001 for unit rows, that of bfloat16 at most 2^-8 of the score.

Embeddings of one modality share a large mean, often in a few dimensions that would take all of
int8's range. Rows are therefore centred: `<q, k - m>` is the score less `<q, m>`, which is the
same for all keys of a query.

Axes: n queries, m keys, k keys of a block, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from features.compiled import compiled
from features.cores import in_parts
from features.products import fast_dtype, product

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIDDLE = 128  # of the unsigned bytes
_LEVELS = 127
_TINY = 1e-12
_PIECE = 1024  # rows
_LINE = 64  # queries are filled up to a multiple of it
_NEVER = 1e4  # a score that no unit row has
_STEP = 5e-4  # scores that exceed the least by half of it are marked


@dataclass(frozen=True)
class Levels:
    """A table in bytes: `row = mean + scale * (byte - 128)`, within half of `scale`."""

    byte: NDArray[np.uint8]
    scale: float
    mean: Float[Tensor, " d"]

    @classmethod
    def of(cls, table: Float[Tensor, "m d"], mean: Float[Tensor, " d"]) -> Levels:
        """Of a float32 table in RAM. mean: about that of its rows."""
        rows, middle = table.numpy(), mean.contiguous().numpy()
        pieces = -(-len(rows) // _PIECE)
        width = np.empty(pieces, np.float32)
        in_parts(lambda start, stop: _extent(rows, middle, width, start, stop), pieces)
        scale = max(float(width.max()), _TINY) / _LEVELS
        # NumPy asks the system for large pages, which random rows are found in faster.
        byte = np.empty(rows.shape, np.uint8)
        inverse = np.float32(1 / scale)
        in_parts(lambda start, stop: _round(rows, middle, inverse, byte, start, stop), len(rows))
        return cls(byte, scale, mean)


class RoughQueries:
    """Queries, ready to be multiplied with keys."""

    def __init__(
        self, queries: Float[Tensor, "n d"], keys: Float[Tensor, "m d"], levels: Levels
    ) -> None:
        """levels: of the keys."""
        self.keys, self.levels = keys, levels
        missing = -len(queries) % _LINE
        self.missing = torch.full((missing,), _NEVER)
        filled = torch.cat([queries, queries.new_zeros(missing, queries.shape[1])])
        self.in_bytes = multiplies_bytes(queries.device)
        if not self.in_bytes:
            self.packed: Any = filled.to(fast_dtype(queries.device))
            return
        self.offset = filled @ levels.mean
        self.scales = (filled.abs().amax(dim=1) / _LEVELS).clamp_min(_TINY)
        # oneDNN packs what is not contiguous wrongly.
        rounded = (filled / self.scales[:, None]).round_().to(torch.int8).contiguous()
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.zeros = torch.zeros(len(filled), dtype=torch.int8)

    def above(self, rows: slice, least: Float[Tensor, " n"]) -> UInt8[Tensor, "k n+"]:
        """Which keys score above a query's `least`: not 0. The queries that fill up have none."""
        bound = torch.cat([least, self.missing])
        if not self.in_bytes:
            keys = self.keys[rows].to(self.packed.dtype)
            return (product(keys, self.packed) > bound).view(torch.uint8)
        return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
            torch.from_numpy(self.levels.byte[rows]), self.levels.scale, MIDDLE, self.packed,
            self.scales, self.zeros, self.offset - bound, _STEP, 0, torch.uint8, "none", [], "",
        )  # fmt: skip


def multiplies_bytes(device: torch.device) -> bool:
    """Whether int8 products are there and fast."""
    if device.type != "cpu" or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return False
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_vnni") or able.get("amx_int8"))


@compiled
def _extent(
    rows: NDArray[np.float32],
    mean: NDArray[np.float32],
    width: NDArray[np.float32],
    start: int,
    stop: int,
) -> None:
    """The largest distance from the mean in any dimension, of every `_PIECE` rows."""
    for piece in range(start, stop):
        most = np.zeros(rows.shape[1], np.float32)
        for row in range(piece * _PIECE, min(len(rows), (piece + 1) * _PIECE)):
            for column in range(rows.shape[1]):
                most[column] = max(most[column], abs(rows[row, column] - mean[column]))
        width[piece] = most.max()


@compiled
def _round(
    rows: NDArray[np.float32],
    mean: NDArray[np.float32],
    inverse: np.float32,
    byte: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    half = np.float32(MIDDLE + 0.5)
    for row in range(start, stop):
        for column in range(rows.shape[1]):
            byte[row, column] = np.uint8((rows[row, column] - mean[column]) * inverse + half)
