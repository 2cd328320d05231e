"""Closed forms, before they are rounded to float32, against the equations in textbooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bridge.methods import closed_forms
from bridge.methods.closed_forms import cca, procrustes, ridge
from tests.bridge.methods.test_closed_forms import centred, gaussian, rotation, spaces

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def exact(monkeypatch):
    """Matrices as they are computed, before they are rounded to float32."""
    monkeypatch.setattr(closed_forms, "_float32", lambda left, right: (left, right))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_procrustes_is_the_orthogonal_factor_of_the_cross_moments():
    left, right = spaces(60, 9, 9, noise=2.0)
    w_left, w_right = procrustes(left, right, dimension=9)
    cross = (left.T @ right).numpy()
    values, vectors = np.linalg.eigh(cross.T @ cross)
    polar = cross @ vectors @ np.diag(values**-0.5) @ vectors.T
    close(w_left @ w_right.T, torch.from_numpy(polar))


@pytest.mark.parametrize("n", [5, 60])
def test_procrustes_rotates_and_does_not_stretch(n):
    w_left, w_right = procrustes(*spaces(n, 12, 9), dimension=9)
    identity = torch.eye(min(n - 1, 9), dtype=torch.float64)
    close(w_left.T @ w_left, identity)
    close(w_right.T @ w_right, identity)


def test_procrustes_undoes_a_rotation():
    left = gaussian(30, 6, seed=1)
    turned = rotation(6, 6, seed=2)
    w_left, w_right = procrustes(left, left @ turned, dimension=6)
    close(w_left @ w_right.T, turned)


def test_procrustes_brings_items_closer_than_other_rotations_do():
    left, right = spaces(30, 6, 6, noise=1.0)

    def distance(turned: Tensor) -> float:
        return float((left @ turned - right).square().sum())

    w_left, w_right = procrustes(left, right, dimension=6)
    best = distance(w_left @ w_right.T)
    for seed in range(50):
        turn = 0.1 * gaussian(6, 6, seed=seed)
        other = torch.linalg.matrix_exp(turn - turn.T)
        assert distance(w_left @ other @ w_right.T) > best


# --- ridge


def solved(source: Tensor, target: Tensor, penalty: float) -> Tensor:
    """The normal equations as they are written."""
    gram = source.T @ source
    width = len(gram)
    absolute = penalty * gram.trace() / width
    return torch.linalg.solve(
        gram + absolute * torch.eye(width, dtype=torch.float64), source.T @ target
    )


@pytest.mark.parametrize("direction", ["left", "right"])
@pytest.mark.parametrize("penalty", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("n", [4, 8, 12, 60])
def test_ridge_solves_the_normal_equations(n, penalty, direction):
    left, right = spaces(n, 12, 9)
    w_left, w_right = ridge(left, right, dimension=12, penalty=penalty, direction=direction)
    sides = {"left": (left, w_left, right, w_right), "right": (right, w_right, left, w_left)}
    target, kept, source, fitted = sides[direction]
    # `kept` only rotates: in its directions the target is whole.
    close(kept.T @ kept, torch.eye(kept.shape[1], dtype=torch.float64))
    close(target @ kept @ kept.T, target)
    close(fitted @ kept.T, solved(source, target, penalty))


@pytest.mark.parametrize("n", [4, 60])
def test_ridge_without_penalty_is_least_squares_of_least_norm(n):
    left, right = spaces(n, 12, 9)
    w_left, w_right = ridge(left, right, dimension=12, penalty=0, direction="left")
    expected = np.linalg.lstsq(right.numpy(), left.numpy(), rcond=1e-9)[0]
    close(w_right @ w_left.T, torch.from_numpy(expected))


@pytest.mark.parametrize("n", [8, 60])
def test_a_narrow_ridge_keeps_the_leading_directions_of_the_target(n):
    left, right = spaces(n, 12, 9)
    w_left, w_right = ridge(left, right, dimension=3, penalty=0.5, direction="left")
    leading = torch.linalg.svd(left).Vh[:3].T
    close(w_left @ w_left.T, leading @ leading.T)
    close(w_right, solved(right, left, 0.5) @ w_left)


# --- canonical correlations


def regularised(rows: Tensor, penalty: float) -> Tensor:
    moments = rows.T @ rows
    width = len(moments)
    return moments + penalty * moments.trace() / width * torch.eye(width, dtype=torch.float64)


@pytest.mark.parametrize("penalty", [0.01, 0.3, 5.0])
@pytest.mark.parametrize("n", [6, 10, 60])
def test_cca_solves_the_generalised_eigenvalue_problem(n, penalty):
    left, right = spaces(n, 12, 9)
    e = min(n - 1, 9)
    w_left, w_right = cca(left, right, dimension=9, penalty=penalty, power=0)
    c_left, c_right = regularised(left, penalty), regularised(right, penalty)
    cross = left.T @ right
    problem = torch.linalg.solve(c_left, cross) @ torch.linalg.solve(c_right, cross.T)
    squares = np.sort(np.linalg.eigvals(problem.numpy()).real)[::-1][:e].copy()
    correlations = torch.from_numpy(squares).sqrt()
    assert w_left.shape == (12, e)
    close(problem @ w_left, w_left * correlations.square())
    identity = torch.eye(e, dtype=torch.float64)
    close(w_left.T @ c_left @ w_left, identity)
    close(w_right.T @ c_right @ w_right, identity)
    close(w_left.T @ cross @ w_right, torch.diag(correlations))


def test_without_a_penalty_the_correlations_are_the_canonical_ones():
    left, right = spaces(60, 12, 9, noise=2.0)
    w_left, w_right = cca(left, right, dimension=9, penalty=0, power=0)
    between = np.corrcoef((left @ w_left).T.numpy(), (right @ w_right).T.numpy())[:9, 9:]
    # The textbook's: cosines of the principal angles between what the columns span.
    cosines = np.linalg.svd(np.linalg.qr(left)[0].T @ np.linalg.qr(right)[0])[1]
    assert cosines[0] - cosines[-1] > 0.5
    np.testing.assert_allclose(between, np.diag(cosines), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", [6, 60])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_directions_weigh_as_their_correlations(n, power):
    left, right = spaces(n, 12, 9, noise=1.0)
    plain = cca(left, right, dimension=5, penalty=0.5, power=0)
    correlations = (plain[0].T @ left.T @ right @ plain[1]).diagonal()
    assert correlations[0] > 1.5 * correlations[-1]
    weighted = cca(left, right, dimension=5, penalty=0.5, power=power)
    for one, other in zip(plain, weighted, strict=True):
        close(other, one * correlations**power)


def test_without_a_penalty_few_items_correlate_perfectly_whatever_they_are():
    left, right = centred(gaussian(6, 12, seed=1)), centred(gaussian(6, 9, seed=2))
    w_left, w_right = cca(left, right, dimension=9, penalty=0, power=1)
    close((left @ w_left).T @ (right @ w_right), torch.eye(5, dtype=torch.float64))
