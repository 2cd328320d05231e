"""Matrix products by the fastest honest routine of the device.

Which routine is taken depends on the kind of processor and never on a measurement, so that the
same inputs give the same bits on the same machine.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

_WORTH = 2**18  # results; smaller products take no time


def product(rows: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """`rows @ others.T` in the rows' own precision, without a gradient."""
    single = rows.dtype == torch.float32 and rows.device.type == "cpu"
    if single and len(rows) * len(others) >= _WORTH and _prefers_onednn():
        made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, others, None, "none", [], "")
        return made
    return rows @ others.T


@cache
def fast_dtype(device: torch.device) -> torch.dtype:
    """What products of roughly right scores are taken in there: bfloat16 where it is faster."""
    if device.type == "cuda":
        # Older ones say that they support it, and emulate it.
        new = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if new else torch.float32
    if device.type == "cpu":
        able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        if able.get("avx512_bf16") or able.get("amx_bf16"):
            return torch.bfloat16
    return torch.float32


def has_kernels(device: torch.device, capability: tuple[int, int]) -> bool:
    """Whether this project's Triton kernels are wanted and run there: `MCR_TRITON=1` asks for them.

    They are right by the interpreter's account, and have not been measured: what has not been seen
    to be faster is not chosen.
    """
    return (
        os.environ.get("MCR_TRITON") == "1"
        and device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= capability
        and find_spec("triton") is not None
    )


@cache
def _prefers_onednn() -> bool:
    """Whether oneDNN multiplies float32 faster than MKL: on AMD's processors, by 1.2 to 1.6."""
    mkldnn, mkl = torch.backends.mkldnn, torch.backends.mkl
    if not (mkldnn.is_available() and mkl.is_available()):  # type: ignore[no-untyped-call]
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    info = Path("/proc/cpuinfo")
    return info.exists() and "AuthenticAMD" in info.read_text(encoding="utf-8", errors="replace")
