"""Inter-space alignment: InfoNCE between two projected batches (C-MCR, eq. for L_inter).

Axes: n pairs in the batch, d dimensions of the shared space.
Row i of `left` is the partner of row i of `right`; every row has unit L2 norm.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bridge.losses.blocks import fits_at_once, two_way_cross_entropy


def info_nce(
    left: Float[Tensor, "n d"], right: Float[Tensor, "n d"], *, temperature: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of finding each row's partner, over both directions.

    Raises ValueError if one side has more rows than the other.

    Indistinguishable rows cost ln(n), here ln(4):

    >>> same = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    >>> f"{info_nce(same, same, temperature=0.05):.4f}"
    '1.3863'
    """
    if len(left) != len(right):
        raise ValueError(
            f"{len(left)} left and {len(right)} right rows are not pairs: give as many of both"
        )
    if not fits_at_once(left, right):
        return two_way_cross_entropy(left, right, lambda _: (None, None), temperature=temperature)
    logits = left @ right.T / temperature
    partner = torch.arange(len(left), device=left.device)
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2
