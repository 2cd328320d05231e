"""Continuously weighted contrastive loss (CWCL, arXiv 2309.14580, eq. 4 to 6).

InfoNCE holds every other item of the batch to be equally wrong. Here an item is right to the
degree in which a frozen encoder finds it similar, so that the shared space takes over the
structure of the frozen one.

Axes: n pairs in the batch, d dimensions of the shared space, f of the frozen one.
Row i of `left`, of `right` and of `frozen` are the same item; every row has unit L2 norm.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.losses.blocks import two_way_cross_entropy
from bridge.training.distributed import Share


def cwcl(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "n d"],
    frozen: Float[Tensor, "n f"],
    *,
    temperature: float,
    sharpness: float = 1.0,
    symmetric: bool = False,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """Half the published loss, in nats: the mean of both directions and not their sum.

    So it weighs as much as `info_nce`, which it becomes where sharpness is high.

    frozen: embeddings of the items of `left` before projection; no gradient flows into them.
    sharpness: power of the weights `(<u_i, u_j> / 2 + 1/2) ** sharpness`; 1 is published.
    symmetric: weight both directions; published is InfoNCE from `right` to `left`.
    share: which rows of the whole batch `left` and `right` are, while `frozen` has all of them;
    what is returned is then this process's part.
    Raises ValueError if the numbers of rows differ.

    What is the same to the frozen encoder should not be told apart:

    >>> apart, same = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> f"{cwcl(apart, apart, frozen=apart, temperature=0.1):.4f}"
    '1.6667'
    >>> f"{cwcl(apart, apart, frozen=same, temperature=0.1):.4f}"
    '2.5000'
    """
    share = share or Share(len(frozen))
    own = len(frozen[share.mine])
    if not len(left) == len(right) == own:
        raise ValueError(
            f"{len(left)} left, {len(right)} right and {own} frozen rows are not the "
            "same items: give as many of each"
        )
    known = frozen.detach().to(torch.promote_types(frozen.dtype, torch.float32))

    def weights(rows: slice) -> tuple[Tensor, Tensor | None]:
        cosines = known[rows] @ known.T
        # Rounding may put a cosine below -1, where a power is not a number.
        w = cosines.div_(2).add_(0.5).clamp_(min=0).pow_(sharpness)
        return w, w if symmetric else None

    return two_way_cross_entropy(
        left, right, weights, temperature=temperature, shares=(share, share)
    )
