"""Choosing a device and a precision by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from features.errors import UnknownNameError, UserError

if TYPE_CHECKING:
    import torch

# name on the command line and in descriptions -> name in torch
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
PRECISIONS = tuple(_DTYPES)


def resolve_device(name: str) -> torch.device:
    """The torch device called `name`; `auto` is CUDA, then Apple's MPS, then the CPU.

    Raises UserError if this machine does not have it.
    """
    import torch

    if name == "auto":
        best = "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else best)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnknownNameError(
            f"'{name}' is not a device: use auto, cpu, cuda, cuda:1 or mps"
        ) from error
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise UserError(
                f"device {name} was asked for but torch {torch.__version__} sees {found} CUDA "
                "devices: pass --device cpu, or install a CUDA build of torch"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps was asked for but this machine has none: pass --device cpu")
    return device


def resolve_precision(name: str) -> torch.dtype:
    """The torch dtype called fp32, bf16 or fp16. Raises UserError for another name."""
    import torch

    if name not in _DTYPES:
        raise UnknownNameError(f"'{name}' is not a precision: use one of {', '.join(PRECISIONS)}")
    dtype: torch.dtype = getattr(torch, _DTYPES[name])
    return dtype


def precision_name(dtype: torch.dtype) -> str:
    """What `resolve_precision` knows a dtype by; of others, torch's own name.

    >>> precision_name(resolve_precision("bf16"))
    'bf16'
    """
    of_torch = str(dtype).removeprefix("torch.")
    return next((name for name, known in _DTYPES.items() if known == of_torch), of_torch)


def cpu_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
