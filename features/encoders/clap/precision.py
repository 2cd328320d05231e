"""bf16 where it is harmless: the transformers; spectrograms and what touches them stay fp32.

Weights stay float32 and autocast casts them for the matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class FullPrecision(torch.nn.Module):
    """Runs a module in float32 inside an autocast region.

    The patch embeddings of fused models write float32 into what autocast has made bfloat16.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The module's output for `x` as float32."""
        with torch.autocast(x.device.type, enabled=False):
            return self.module(x.float(), *args, **kwargs)


@contextmanager
def casting(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Matrix products in `dtype` inside the block; float32 is untouched."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        yield


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """No TF32: a spectrogram by convolution would keep ten bits of its mantissa."""
    enabled = torch.backends.cudnn.enabled
    with torch.backends.cudnn.flags(enabled=enabled, allow_tf32=False):
        yield
