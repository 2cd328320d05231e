from __future__ import annotations

import math

import pytest
import torch

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
