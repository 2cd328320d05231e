"""What an embedding space is like: gaps, alignment, uniformity, CKA, hubs, neighbourhoods.

Rows are unit vectors unless said otherwise; all sums are in float64.

Axes: n items, m items, d and e dimensions, k neighbours.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROWS = 2048  # whose scores with all others are held at a time


def modality_gap(left: Float[Tensor, "n d"], right: Float[Tensor, "m d"]) -> float:
    """Distance between the centroids of two modalities (Liang et al., arXiv 2203.02053, eq. 1).

    >>> modality_gap(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])) == 2**0.5
    True
    """
    return float((left.double().mean(dim=0) - right.double().mean(dim=0)).norm())


def alignment(left: Float[Tensor, "n d"], right: Float[Tensor, "n d"]) -> float:
    """Mean squared distance of partners, row by row (Wang & Isola, arXiv 2005.10242, alpha = 2).

    0 is best, 2 is what unrelated directions have.
    """
    return float((left.double() - right.double()).square().sum(dim=1).mean())


def uniformity(rows: Float[Tensor, "n d"], *, scale: float = 2.0) -> float:
    """ln of the mean of exp(-scale |x - y|^2) over pairs of different items (Wang & Isola, t = 2).

    0 where all rows are the same; lower, to -4 scale at most, the more they spread over the sphere.
    Takes two rows or more.

    >>> f"{uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])):.1f}"
    '-8.0'
    """
    rows = rows.double()
    squares = rows.square().sum(dim=1)
    total = torch.zeros((), dtype=torch.float64, device=rows.device)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        distances = (squares[start : start + _ROWS, None] + squares - 2 * part @ rows.T).clamp_(0)
        near = (-scale * distances).exp_()
        here = torch.arange(len(part))
        near[here, start + here] = 0
        total += near.sum()
    return float((total / (len(rows) * (len(rows) - 1))).log())


def linear_cka(left: Float[Tensor, "n d"], right: Float[Tensor, "n e"]) -> float:
    """Linear centred kernel alignment of two embeddings of the same items, from 0 to 1.

    Kornblith et al., arXiv 1905.00414, eq. 3 with linear kernels; rows need not be unit. 0 where
    one of them embeds all items alike.
    """
    x = left.double() - left.double().mean(dim=0)
    y = right.double() - right.double().mean(dim=0)
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).square().sum() / scale) if scale > 0 else 0.0


def occurrences(neighbours: Int[Tensor, "n k"], items: int) -> Int[Tensor, " m"]:
    """How often each of `items` items is among the k nearest of a query."""
    return neighbours.flatten().bincount(minlength=items)


def skewness(counts: Int[Tensor, " m"]) -> float:
    """Third standardised moment; 0 where all are equal.

    Of `occurrences` it is the hubness of a space (Radovanović et al., JMLR 11, 2010, eq. 1): 0 or
    less where all items are found alike, high where a few hubs are found by many queries.

    >>> f"{skewness(torch.tensor([0, 0, 0, 4])):.4f}"
    '1.1547'
    """
    away = counts.double() - counts.double().mean()
    variance = away.square().mean()
    return float((away**3).mean() / variance**1.5) if variance > 0 else 0.0


def neighbour_agreement(left: Int[Tensor, "n k"], right: Int[Tensor, "n k"]) -> float:
    """Mean share of each item's k neighbours that both spaces agree on.

    >>> neighbour_agreement(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]))
    0.5
    """
    shared = (left[:, :, None] == right[:, None, :]).any(dim=2)
    return float(shared.double().mean())
