"""Cross-entropy with soft targets: how much each row of one side belongs to each of the other.

Axes: n rows on the left, m on the right, d dimensions of the shared space; every row has unit
L2 norm.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from bridge.losses.blocks import two_way_cross_entropy
from bridge.training.distributed import Share


def soft_cross_entropy(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "m d"],
    targets: Float[Tensor, "n m"],
    *,
    temperature: float,
    shares: tuple[Share, Share] | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, between targets and softmax, over both directions.

    targets: at least zero, and normalised here, over each row for the rows and over each column
    for the columns; no gradient flows into them. A row or column of zeros has no say: it is left
    out of its direction's mean, which is zero if nothing remains.
    shares: which rows of the whole batch `left` and `right` are; `targets` are of these left rows
    with all right ones, and what is returned is this process's part.
    Raises ValueError if targets are not of shape (n, m).

    Partners as the only targets give `info_nce`; of two equal targets each should get half:

    >>> apart = torch.eye(2)
    >>> f"{soft_cross_entropy(apart, apart, torch.eye(2), temperature=1.0):.4f}"
    '0.3133'
    >>> f"{soft_cross_entropy(apart, apart, torch.ones(2, 2), temperature=1.0):.4f}"
    '0.8133'
    """
    of_left, of_right = shares or (Share(len(left)), Share(len(right)))
    if targets.shape != (len(left), of_right.rows):
        raise ValueError(
            f"targets are {tuple(targets.shape)} but {len(left)} left and {of_right.rows} right "
            f"rows need ({len(left)}, {of_right.rows}): give one for every pair"
        )
    given = targets.detach()

    def some(rows: slice) -> tuple[Tensor, Tensor]:
        found = given[rows.start - of_left.start : rows.stop - of_left.start]
        return found, found

    return two_way_cross_entropy(
        left, right, some, temperature=temperature, shares=(of_left, of_right)
    )
