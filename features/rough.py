"""Inner products that are roughly right, several times faster than in float32.

In int8 where the processor multiplies bytes (AVX-512 VNNI) and torch has oneDNN's product for
them, otherwise in bfloat16 where that is fast, otherwise in float32. The error of int8 is about
0.001 for unit rows, that of bfloat16 at most 2^-8 of the score.

Embeddings of one modality share a large mean, often in a few dimensions that would take all of
int8's range. Keys are therefore centred: `<q, k - m>` is the score less `<q, m>`, which is the
same for all keys of a query.

Axes: n queries, k keys of a block, d dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from features.products import fast_dtype

_LEVELS = 127
_MIDDLE = 128  # of the unsigned bytes that keys are kept in
_TINY = 1e-12
_AT_ONCE = 2048  # keys that are converted at once, to stay in the cache


class RoughKeys:
    """How the keys of a memory are stored for rough products.

    sample: some of them, for their mean and range. A larger value than these have is cut off.
    """

    def __init__(self, sample: Float[Tensor, "r d"]) -> None:
        self.device = sample.device
        self.bytes = multiplies_bytes(self.device)
        self.dtype = torch.uint8 if self.bytes else fast_dtype(self.device)
        self.mean = sample.mean(dim=0)
        self.scale = max(1.25 * float((sample - self.mean).abs().max()), _TINY) / _LEVELS

    def block(self, keys: Float[Tensor, "k d"]) -> Tensor:
        """Keys as they are multiplied, (k, d)."""
        if not self.bytes:
            return keys.to(self.device, self.dtype)
        made = torch.empty(keys.shape, dtype=torch.uint8)
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE].float() - self.mean
            part = part.div_(self.scale).round_().add_(_MIDDLE).clamp_(0, 2 * _LEVELS + 1)
            made[start : start + _AT_ONCE] = part
        return made


class RoughQueries:
    """Queries, ready to be multiplied with blocks of keys.

    offset: (n, 1), what the scores lack.
    """

    def __init__(self, queries: Float[Tensor, "n d"], keys: RoughKeys) -> None:
        self.keys = keys
        if not keys.bytes:
            self.packed: Any = queries.to(keys.dtype)
            self.offset = queries.new_zeros(len(queries), 1)
            return
        self.offset = (queries @ keys.mean)[:, None]
        self.scales = (queries.abs().amax(dim=1) / _LEVELS).clamp_min(_TINY)
        # oneDNN packs what is not contiguous wrongly.
        levels = (queries / self.scales[:, None]).round_().to(torch.int8).contiguous()
        self.packed = torch.ops.onednn.qlinear_prepack(levels, None)
        self.zeros = torch.zeros(len(queries), dtype=torch.int8)

    def scores(self, block: Tensor) -> Float[Tensor, "k n"]:
        """Inner products of all keys of a block with all queries, less the queries' offset."""
        if not self.keys.bytes:
            made: Tensor = block @ self.packed.T
            return made
        return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
            block, self.keys.scale, _MIDDLE, self.packed, self.scales, self.zeros,
            None, 1.0, 0, torch.bfloat16, "none", [], "",
        )  # fmt: skip


def multiplies_bytes(device: torch.device) -> bool:
    """Whether int8 products are there and fast."""
    if device.type != "cpu" or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return False
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_vnni") or able.get("amx_int8"))
