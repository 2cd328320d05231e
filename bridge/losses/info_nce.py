"""Inter-space alignment: InfoNCE between two projected batches (C-MCR, eq. for L_inter).

Axes: n pairs in the batch, d dimensions of the shared space.
Row i of `left` is the partner of row i of `right`; every row has unit L2 norm.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from bridge.losses.partners import partners_cross_entropy
from bridge.training.distributed import Share


def info_nce(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "n d"],
    *,
    temperature: float,
    bf16: bool = False,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of finding each row's partner, over both directions.

    bf16: compute the products in bfloat16, and sum in float32.
    share: which rows of the whole batch these are; what is returned is then this process's part.
    Raises ValueError if one side has more rows than the other.

    Indistinguishable rows cost ln(n), here ln(4):

    >>> import torch
    >>> same = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    >>> f"{info_nce(same, same, temperature=0.05):.4f}"
    '1.3863'
    """
    if len(left) != len(right):
        raise ValueError(
            f"{len(left)} left and {len(right)} right rows are not pairs: give as many of both"
        )
    return partners_cross_entropy(left, right, temperature=temperature, bf16=bf16, share=share)
