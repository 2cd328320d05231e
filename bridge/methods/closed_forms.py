"""Closed-form alignments of two frozen spaces: what linear algebra alone gets from hub items.

Each function takes the same hub items in both spaces and returns a matrix for each; rows of
`left @ w_left` and `right @ w_right` are then compared by cosine. Input is used as it is: centre
the hub items, and all that is projected later on the same means, to align what tells items
apart and not where the spaces lie. All is computed in float64 and returned in float32.

A direction whose second moment is below 1e-9 of the largest one's is rounding and is left out,
so the shared space may be narrower than `dimension`. Rows that are all zero, as equal items are
once centred, get a matrix without columns, or of zeros.

Axes: n hub items, d1 and d2 dimensions of the frozen spaces, e of the shared one; r directions
that the rows of one space span.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

# A single item is zero once it is centred, and as it is it spans one direction, where every
# cosine is 1 or -1. Two give one direction that tells them apart.
MINIMUM_ITEMS = 2
_ROUNDING = 1e-9
_BLOCK = 16_384

Alignment = tuple[Float[Tensor, "d1 e"], Float[Tensor, "d2 e"]]


def procrustes(
    left: Float[Tensor, "n d1"], right: Float[Tensor, "n d2"], *, dimension: int
) -> Alignment:
    """Orthogonal Procrustes: the rotations that maximise the sum of the items' inner products.

    The leading singular vectors of `left.T @ right`, left and right (Schoenemann 1966,
    Psychometrika 31; `w_left @ w_right.T` is his rotation where it is square and of full rank).
    Those of no singular value, which fewer items than dimensions always leave, pair arbitrary
    directions that no item speaks for, and only add noise to the cosines: they are left out.
    """
    u, values, vt = torch.linalg.svd(_product(left, right), full_matrices=False)
    e = min(dimension, _informative(values))
    return _float32(*_signed(u[:, :e], vt[:e].T))


def ridge(
    left: Float[Tensor, "n d1"],
    right: Float[Tensor, "n d2"],
    *,
    dimension: int,
    penalty: float,
    direction: Literal["left", "right"],
) -> Alignment:
    """Ridge regression of the space that `direction` names, the target, on the other, the source.

    The source's matrix is the `w` that minimises `|source @ w - target|^2 + penalty m |w|^2`,
    where m is the mean eigenvalue of `source.T @ source` (Hoerl and Kennard 1970,
    Technometrics 12); penalty 0 is least squares of least norm. The target stays as it is, but
    both are told in the leading singular directions of the target's rows: no prediction ever
    leaves them, and what a later target has outside only adds noise to the cosines.
    """
    target, source = {"left": (left, right), "right": (right, left)}[direction]
    basis = _principal(target)[0][:, :dimension]
    directions, moments = _principal(source)
    shrunk = directions / (moments + _absolute(penalty, moments, source))
    basis, mapped = _signed(basis, shrunk @ (directions.T @ _product(source, target) @ basis))
    return _float32(basis, mapped) if direction == "left" else _float32(mapped, basis)


def cca(
    left: Float[Tensor, "n d1"],
    right: Float[Tensor, "n d2"],
    *,
    dimension: int,
    penalty: float,
    power: float = 1.0,
) -> Alignment:
    """Regularised canonical correlation analysis, its directions weighted by correlation.

    `w_left = (C + penalty m I)^(-1/2) U diag(correlation ** power)`, where `C = left.T @ left`,
    m is its mean eigenvalue, and U and the correlations come from the singular value
    decomposition of `left.T @ right` whitened like this on both sides; `w_right` likewise
    (Hotelling 1936, Biometrika 28; Vinod 1976, Journal of Econometrics 4, for the penalty; Gong
    et al. 2014, arXiv 1212.4522, for the weights). Power 0 is plain CCA. Without a penalty, and
    with no more items than dimensions, every correlation is 1 and says nothing.
    """
    white_left, white_right = _whitening(left, penalty), _whitening(right, penalty)
    whitened = white_left.T @ _product(left, right) @ white_right
    u, correlations, vt = torch.linalg.svd(whitened, full_matrices=False)
    e = min(dimension, _informative(correlations))
    w_left, w_right = _signed(white_left @ u[:, :e], white_right @ vt[:e].T)
    weights = correlations[:e] ** power
    return _float32(w_left * weights, w_right * weights)


def _whitening(rows: Tensor, penalty: float) -> Float[Tensor, "d r"]:
    """Matrix that takes the regularised second moments to the identity, in the rows' span."""
    directions, moments = _principal(rows)
    return directions / (moments + _absolute(penalty, moments, rows)).sqrt()


def _principal(rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "d r"], Float[Tensor, " r"]]:
    """Eigenvectors and eigenvalues of `rows.T @ rows`, largest first, without those of rounding.

    Fewer rows than dimensions are decomposed as they are, the dual route: r is at most n.
    """
    if len(rows) < rows.shape[1]:
        _, values, vt = torch.linalg.svd(rows.double(), full_matrices=False)
        directions, moments = vt.T, values.square()
    else:
        ascending, vectors = torch.linalg.eigh(_product(rows, rows))
        directions, moments = vectors.flip(1), ascending.flip(0)
    r = _informative(moments)
    return directions[:, :r], moments[:r]


def _absolute(penalty: float, moments: Tensor, rows: Tensor) -> Tensor:
    """The penalty times the mean eigenvalue, so that it means the same at any n and scale."""
    return penalty * moments.sum() / rows.shape[1]


def _product(left: Tensor, right: Tensor) -> Float[Tensor, "d1 d2"]:
    """`left.T @ right` in float64, without a float64 copy of all rows."""
    total = left.new_zeros(left.shape[1], right.shape[1], dtype=torch.float64)
    for one, other in zip(torch.split(left, _BLOCK), torch.split(right, _BLOCK), strict=True):
        total += one.double().T @ other.double()
    return total


def _informative(values: Float[Tensor, " r"]) -> int:
    """How many of the singular values, largest first, are more than rounding."""
    return int((values > _ROUNDING * values[:1]).sum())


def _signed(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Each pair of columns with the sign that makes the left one's largest entry positive."""
    signs = left.gather(0, left.abs().argmax(dim=0, keepdim=True)).sign()
    return left * signs, right * signs


def _float32(left: Tensor, right: Tensor) -> Alignment:
    return left.float().contiguous(), right.float().contiguous()
