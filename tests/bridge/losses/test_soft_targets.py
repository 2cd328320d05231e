from __future__ import annotations

import math

import pytest
import torch

from bridge.losses import blocks
from bridge.losses.info_nce import info_nce
from bridge.losses.soft_targets import soft_cross_entropy
from tests.bridge.conftest import unit_rows


def naive(left, right, targets, temperature) -> float:
    """Both directions, one pair at a time."""
    directions = []
    for queries, candidates, wanted in (
        (left.tolist(), right.tolist(), targets.tolist()),
        (right.tolist(), left.tolist(), targets.T.tolist()),
    ):
        costs = []
        for query, row in zip(queries, wanted, strict=True):
            if sum(row) == 0:
                continue
            scores = [
                math.fsum(x * y for x, y in zip(query, candidate, strict=True)) / temperature
                for candidate in candidates
            ]
            top = max(scores)
            log_sum = top + math.log(math.fsum(math.exp(score - top) for score in scores))
            costs.append(
                -sum(w / sum(row) * (s - log_sum) for w, s in zip(row, scores, strict=True))
            )
        directions.append(sum(costs) / len(costs) if costs else 0.0)
    return sum(directions) / 2


def random_targets(n: int, m: int, *, zeros: bool = False) -> torch.Tensor:
    targets = torch.rand(n, m, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if zeros:
        targets[n // 2] = targets[:, m // 3] = 0
    return targets


@pytest.mark.parametrize("most", [12, 10_000])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 2), (7, 7), (4, 9), (9, 4), (1, 5)])
def test_equals_a_triple_loop(n, m, temperature, zeros, most, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    left, right = unit_rows(n, 5, seed=1), unit_rows(m, 5, seed=2)
    targets = random_targets(n, m, zeros=zeros)
    expected = naive(left, right, targets, temperature)
    ours = soft_cross_entropy(left, right, targets, temperature=temperature)
    assert float(ours) == pytest.approx(expected, abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("most", [12, 10_000])
@pytest.mark.parametrize("n", [1, 6])
def test_partners_as_the_only_targets_are_info_nce(n, most, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    left, right = unit_rows(n, 5, seed=1), unit_rows(n, 5, seed=2)
    ours = soft_cross_entropy(left, right, torch.eye(n), temperature=0.05)
    torch.testing.assert_close(ours, info_nce(left, right, temperature=0.05), rtol=0, atol=1e-9)


def test_targets_that_the_softmax_meets_cost_their_entropy_and_have_no_gradient():
    rows = torch.eye(4, dtype=torch.float64).requires_grad_()
    targets = (rows.detach() / 0.5).softmax(dim=1)
    loss = soft_cross_entropy(rows, torch.eye(4, dtype=torch.float64), targets, temperature=0.5)
    loss.backward()
    entropy = -(targets[0] * targets[0].log()).sum()
    torch.testing.assert_close(loss.detach(), entropy, rtol=0, atol=1e-12)
    torch.testing.assert_close(rows.grad, torch.zeros_like(rows), rtol=0, atol=1e-12)


def test_the_sides_may_be_swapped_and_the_scale_of_targets_does_not_matter():
    left, right, targets = unit_rows(4, 5, seed=1), unit_rows(9, 5, seed=2), random_targets(4, 9)
    plain = soft_cross_entropy(left, right, targets, temperature=0.1)
    swapped = soft_cross_entropy(right, left, targets.T, temperature=0.1)
    scaled = soft_cross_entropy(left, right, 1000 * targets, temperature=0.1)
    torch.testing.assert_close(swapped, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(scaled, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("most", [12, 10_000])
def test_a_row_without_targets_is_as_if_it_only_were_a_candidate(most, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    left, right = unit_rows(5, 4, seed=1), unit_rows(5, 4, seed=2)
    targets = torch.eye(5, dtype=torch.float64)
    targets[2, 2] = 0
    kept = torch.tensor([0, 1, 3, 4])
    logits = left @ right.T / 0.1
    there = torch.nn.functional.cross_entropy(logits[kept], kept)
    back = torch.nn.functional.cross_entropy(logits.T[kept], kept)
    ours = soft_cross_entropy(left, right, targets, temperature=0.1)
    torch.testing.assert_close(ours, (there + back) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("most", [12, 10_000])
def test_without_any_target_the_loss_and_its_gradient_are_zero(most, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    left, right = unit_rows(5, 4, seed=1).requires_grad_(), unit_rows(6, 4, seed=2).requires_grad_()
    loss = soft_cross_entropy(left, right, torch.zeros(5, 6), temperature=0.01)
    loss.backward()
    assert loss.item() == 0
    for side in (left, right):
        assert torch.equal(side.grad, torch.zeros_like(side))


def test_the_gradient_is_that_of_the_value():
    left, right = unit_rows(4, 3, seed=1).requires_grad_(), unit_rows(5, 3, seed=2).requires_grad_()
    targets = random_targets(4, 5, zeros=True)
    assert torch.autograd.gradcheck(
        lambda a, b: soft_cross_entropy(a, b, targets, temperature=0.3), (left, right)
    )


def test_targets_get_no_gradient():
    left, right = unit_rows(4, 3, seed=1).requires_grad_(), unit_rows(4, 3, seed=2)
    targets = random_targets(4, 4).requires_grad_()
    soft_cross_entropy(left, right, targets, temperature=0.3).backward()
    assert left.grad is not None
    assert targets.grad is None


@pytest.mark.parametrize("shape", [(1, 6), (4, 1), (6, 4), (4, 7), (5, 6), (6,)])
def test_targets_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"need \(4, 6\)"):
        soft_cross_entropy(unit_rows(4, 3), unit_rows(6, 3), torch.ones(shape), temperature=0.1)
