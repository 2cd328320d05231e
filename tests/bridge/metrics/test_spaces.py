from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import skew

from bridge.metrics import spaces
from bridge.metrics.spaces import (
    alignment,
    linear_cka,
    modality_gap,
    neighbour_agreement,
    occurrences,
    skewness,
    uniformity,
)
from tests.bridge.conftest import unit_rows

X, Y = unit_rows(40, 6, seed=1), unit_rows(40, 6, seed=2)


def test_a_gap_worked_by_hand():
    left, right = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[-1.0, 0]])
    assert modality_gap(left, right) == math.hypot(1.5, 0.5)
    assert modality_gap(X, X) == 0


def test_alignment_is_the_mean_squared_distance():
    expected = np.mean([((x - y) ** 2).sum() for x, y in zip(X.numpy(), Y.numpy(), strict=True)])
    assert alignment(X, Y) == pytest.approx(expected, abs=1e-14)
    assert alignment(X, X) == 0
    assert alignment(X, -X) == pytest.approx(4)


@pytest.mark.parametrize("rows", [7, 2048])
def test_uniformity_is_as_published(rows, monkeypatch):
    monkeypatch.setattr(spaces, "_ROWS", rows)
    expected = np.log(np.exp(-2 * pdist(X.numpy(), "sqeuclidean")).mean())
    assert uniformity(X) == pytest.approx(expected, abs=1e-12)
    assert uniformity(X[:1].expand(5, 6)) == pytest.approx(0, abs=1e-12)


def test_cka_against_the_kernels_themselves():
    left, right = X.numpy(), np.concatenate([Y.numpy(), X.numpy()[:, :2]], axis=1)
    centre = np.eye(40) - 1 / 40
    k, h = centre @ left @ left.T @ centre, centre @ right @ right.T @ centre
    expected = (k * h).sum() / math.sqrt((k * k).sum() * (h * h).sum())
    assert linear_cka(X, torch.from_numpy(right)) == pytest.approx(expected, abs=1e-12)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()).Q
    assert linear_cka(X, 3 * X @ turn + 1) == pytest.approx(1, abs=1e-12)
    assert linear_cka(X, torch.ones(40, 3)) == 0


def test_hubs():
    neighbours = torch.tensor([[0, 1], [0, 2], [0, 1], [0, 3]])
    counts = occurrences(neighbours, 5)
    assert counts.tolist() == [4, 2, 1, 1, 0]
    assert skewness(counts) == pytest.approx(skew(counts.numpy()), abs=1e-12)
    assert skewness(torch.tensor([3, 3, 3])) == 0


def test_agreement_does_not_ask_for_the_order():
    left = torch.tensor([[1, 2, 3], [0, 2, 3]])
    assert neighbour_agreement(left, torch.tensor([[3, 2, 1], [4, 5, 0]])) == (1 + 1 / 3) / 2
