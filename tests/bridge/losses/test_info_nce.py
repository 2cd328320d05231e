from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from bridge.losses import blocks
from bridge.losses.info_nce import info_nce
from tests.bridge.conftest import unit_rows


def naive(left: torch.Tensor, right: torch.Tensor, temperature: float) -> float:
    """Both directions, one row, one candidate and one dimension at a time."""
    n, d = left.shape
    total = 0.0
    for queries, candidates in ((left, right), (right, left)):
        for i in range(n):
            scores = []
            for j in range(n):
                cosine = 0.0
                for k in range(d):
                    cosine += float(queries[i, k]) * float(candidates[j, k])
                scores.append(cosine / temperature)
            top = max(scores)
            log_sum = top + math.log(sum(math.exp(score - top) for score in scores))
            total += (log_sum - scores[i]) / (2 * n)
    return total


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0, 100.0])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 2), (7, 5)])
def test_equals_a_triple_loop(n, d, temperature):
    left, right = unit_rows(n, d, seed=1), unit_rows(n, d, seed=2)
    expected = naive(left, right, temperature)
    assert float(info_nce(left, right, temperature=temperature)) == pytest.approx(
        expected, abs=1e-9, rel=1e-9
    )


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_orthonormal_pairs_cost_the_closed_form(n, temperature):
    rows = torch.eye(n, 8, dtype=torch.float64)
    expected = math.log1p((n - 1) * math.exp(-1 / temperature))
    assert float(info_nce(rows, rows, temperature=temperature)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 17])
def test_indistinguishable_rows_cost_the_logarithm_of_their_number(n):
    rows = unit_rows(1, 4).expand(n, 4)
    assert float(info_nce(rows, rows, temperature=0.01)) == pytest.approx(math.log(n), abs=1e-9)


def test_the_sides_may_be_swapped():
    left, right = unit_rows(9, 4, seed=1), unit_rows(9, 4, seed=2)
    there, back = (info_nce(*sides, temperature=0.05) for sides in ((left, right), (right, left)))
    torch.testing.assert_close(there, back, rtol=0, atol=1e-12)


def test_the_order_of_pairs_does_not_matter():
    left, right = unit_rows(9, 4, seed=1), unit_rows(9, 4, seed=2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    shuffled = info_nce(left[order], right[order], temperature=0.05)
    torch.testing.assert_close(shuffled, info_nce(left, right, temperature=0.05))


def test_rotating_both_sides_does_not_matter_but_rotating_one_does():
    left, right = unit_rows(9, 4, seed=1), unit_rows(9, 4, seed=2)
    rotation = torch.linalg.qr(unit_rows(4, 4, seed=3)).Q
    plain = info_nce(left, right, temperature=0.05)
    both = info_nce(left @ rotation, right @ rotation, temperature=0.05)
    torch.testing.assert_close(both, plain)
    assert not torch.allclose(info_nce(left @ rotation, right, temperature=0.05), plain)


def test_broken_pairs_cost_more_than_true_ones():
    rows = unit_rows(9, 4)
    true = info_nce(rows, rows, temperature=0.1)
    assert float(info_nce(rows, rows.roll(1, dims=0), temperature=0.1)) > float(true) + 1


def test_the_gradient_is_that_of_the_value():
    left, right = unit_rows(4, 3, seed=1), unit_rows(4, 3, seed=2)
    inputs = (left.requires_grad_(), right.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, temperature=0.3), inputs)


@pytest.mark.parametrize("temperature", [0.01, 1.0])
@pytest.mark.parametrize("n", [2, 7, 20])
def test_blocks_equal_a_triple_loop(n, temperature, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", 3 * n)
    left, right = unit_rows(n, 5, seed=1), unit_rows(n, 5, seed=2)
    expected = naive(left, right, temperature)
    assert float(info_nce(left, right, temperature=temperature)) == pytest.approx(
        expected, abs=1e-9, rel=1e-9
    )


@pytest.mark.parametrize("n", [1, 17, 128])
def test_value_and_gradients_are_those_of_torchs_cross_entropy(n):
    gradients, values = [], []
    for loss in (info_nce, cross_entropies):
        left, right = (unit_rows(n, 16, seed=i) for i in (1, 2))
        values.append(loss(left.requires_grad_(), right.requires_grad_(), temperature=0.01))
        values[-1].backward()
        gradients += [(left.grad, right.grad)]
    torch.testing.assert_close(*values, rtol=0, atol=1e-9)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def cross_entropies(left, right, *, temperature):
    logits, partner = left @ right.T / temperature, torch.arange(len(left))
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


@pytest.mark.parametrize("shape", [(5, 7), (7, 5)])
@pytest.mark.parametrize("most", [1, 100])
def test_rows_without_a_partner_are_refused(shape, most, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    left, right = (unit_rows(n, 3) for n in shape)
    with pytest.raises(ValueError, match=f"{shape[0]} left and {shape[1]} right rows"):
        info_nce(left, right, temperature=0.1)
