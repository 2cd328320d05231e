"""Cross-entropy with soft targets: how much each row of one side belongs to each of the other.

Axes: n rows on the left, m on the right, d dimensions of the shared space; every row has unit
L2 norm.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from bridge.losses.blocks import two_way_cross_entropy


def soft_cross_entropy(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "m d"],
    targets: Float[Tensor, "n m"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, between targets and softmax, over both directions.

    targets: at least zero, and normalised here, over each row for the rows and over each column
    for the columns; no gradient flows into them. A row or column of zeros has no say: it is left
    out of its direction's mean, which is zero if nothing remains.
    Raises ValueError if targets are not of shape (n, m).

    Partners as the only targets give `info_nce`; of two equal targets each should get half:

    >>> apart = torch.eye(2)
    >>> f"{soft_cross_entropy(apart, apart, torch.eye(2), temperature=1.0):.4f}"
    '0.3133'
    >>> f"{soft_cross_entropy(apart, apart, torch.ones(2, 2), temperature=1.0):.4f}"
    '0.8133'
    """
    if targets.shape != (len(left), len(right)):
        raise ValueError(
            f"targets are {tuple(targets.shape)} but {len(left)} left and {len(right)} right rows "
            f"need ({len(left)}, {len(right)}): give one for every pair"
        )
    given = targets.detach()
    return two_way_cross_entropy(
        left, right, lambda rows: (given[rows], given[rows]), temperature=temperature
    )
