"""Intra-space alignment: closing the modality gap inside each space (C-MCR, eq. for L_intra).

It only pulls: the repulsive half of a contrastive loss would keep the gap open.

Axes: n pairs in the batch, d dimensions of the shared space.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.training.distributed import Share


def intra_distance(
    hub: Float[Tensor, "n d"], leaf: Float[Tensor, "n d"], *, share: Share | None = None
) -> Float[Tensor, ""]:
    """Mean Euclidean distance, unsquared, between hub embeddings and their pseudo pairs.

    share: which rows of the whole batch these are; what is returned is then this process's part.

    Opposite unit vectors are 2 apart:

    >>> one = torch.tensor([[1.0, 0.0]])
    >>> f"{intra_distance(one, -one):.1f}"
    '2.0'
    """
    distances: Tensor = torch.linalg.vector_norm(hub - leaf, dim=-1)
    return distances.sum() / (share or Share(len(hub))).rows
