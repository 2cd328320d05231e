from __future__ import annotations

import math

import pytest
import torch

from bridge.losses.intra import intra_distance
from tests.bridge.conftest import unit_rows


def naive(hub: torch.Tensor, leaf: torch.Tensor) -> float:
    total = 0.0
    for i in range(len(hub)):
        squares = 0.0
        for k in range(hub.shape[1]):
            squares += (float(hub[i, k]) - float(leaf[i, k])) ** 2
        total += math.sqrt(squares)
    return total / len(hub)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 5), (7, 3), (20, 11)])
def test_equals_a_loop(n, d):
    hub, leaf = unit_rows(n, d, seed=1), unit_rows(n, d, seed=2)
    assert float(intra_distance(hub, leaf)) == pytest.approx(naive(hub, leaf), abs=1e-9)


@pytest.mark.parametrize("degrees", [0, 1, 60, 90, 180])
def test_unit_vectors_are_twice_the_sine_of_half_their_angle_apart(degrees):
    angle = math.radians(degrees)
    hub = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    leaf = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    assert float(intra_distance(hub, leaf)) == pytest.approx(2 * math.sin(angle / 2), abs=1e-9)


def test_distances_are_not_squared():
    hub = torch.zeros(2, 2, dtype=torch.float64)
    leaf = torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
    assert float(intra_distance(hub, leaf)) == pytest.approx((5 + 1) / 2)


def test_swapping_the_sides_permuting_the_pairs_and_rotating_do_not_matter():
    hub, leaf = unit_rows(9, 4, seed=1), unit_rows(9, 4, seed=2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    rotation = torch.linalg.qr(unit_rows(4, 4, seed=3)).Q
    plain = intra_distance(hub, leaf)
    torch.testing.assert_close(intra_distance(leaf, hub), plain)
    torch.testing.assert_close(intra_distance(hub[order], leaf[order]), plain)
    torch.testing.assert_close(intra_distance(hub @ rotation, leaf @ rotation), plain)


def test_it_only_pulls_each_pair_together():
    hub, leaf = unit_rows(3, 4, seed=1).requires_grad_(), unit_rows(3, 4, seed=2)
    intra_distance(hub, leaf).backward()
    expected = torch.nn.functional.normalize((hub - leaf).detach(), dim=-1) / 3
    torch.testing.assert_close(hub.grad, expected)


def test_a_pair_that_coincides_has_a_finite_gradient():
    hub = unit_rows(3, 4).requires_grad_()
    intra_distance(hub, hub.detach().clone()).backward()
    assert torch.equal(hub.grad, torch.zeros_like(hub))


def test_the_gradient_is_that_of_the_value():
    inputs = (unit_rows(4, 3, seed=1).requires_grad_(), unit_rows(4, 3, seed=2).requires_grad_())
    assert torch.autograd.gradcheck(intra_distance, inputs)
