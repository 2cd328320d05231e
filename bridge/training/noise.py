"""Semantic completion: Gaussian noise on unit embeddings (C-MCR, section 3.3).

An embedding says less than the item it stands for; noise turns the point into the
neighbourhood of meanings that it may stand for.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def add_noise(
    embeddings: Float[Tensor, "n d"], *, variance: float, generator: torch.Generator
) -> Float[Tensor, "n d"]:
    """Unit rows plus noise of `variance` in every dimension, normalised again.

    The generator lives on the embeddings' device.
    """
    if variance == 0:
        return embeddings
    noise = torch.randn(
        embeddings.shape, generator=generator, device=embeddings.device, dtype=embeddings.dtype
    )
    return F.normalize(embeddings + noise * variance**0.5, dim=-1)
