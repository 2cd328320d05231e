from __future__ import annotations

import math

import pytest
import torch

from bridge.losses import blocks
from bridge.losses.cwcl import cwcl
from bridge.losses.info_nce import info_nce
from tests.bridge.conftest import unit_rows


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def naive(left, right, frozen, temperature, sharpness=1.0, symmetric=False) -> float:
    """Half the published sum, one pair at a time."""
    n = len(left)
    weights = [[(dot(u, v) / 2 + 0.5) ** sharpness for v in frozen] for u in frozen]
    partners = [[float(i == j) for j in range(n)] for i in range(n)]
    total = 0.0
    for queries, candidates, w in (
        (left, right, weights),
        (right, left, weights if symmetric else partners),
    ):
        for i in range(n):
            scores = [dot(queries[i], candidate) / temperature for candidate in candidates]
            top = max(scores)
            log_sum = top + math.log(math.fsum(math.exp(score - top) for score in scores))
            log_softmax = math.fsum(w[i][j] * (scores[j] - log_sum) for j in range(n))
            total -= log_softmax / sum(w[i]) / n
    return total / 2


def rows(n: int, d: int = 5, f: int = 4) -> tuple[torch.Tensor, ...]:
    return unit_rows(n, d, seed=1), unit_rows(n, d, seed=2), unit_rows(n, f, seed=3)


@pytest.mark.parametrize("most", [8, 10_000])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("sharpness", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(("n", "temperature"), [(1, 0.1), (2, 1.0), (7, 0.01), (7, 0.1)])
def test_equals_a_triple_loop(n, temperature, sharpness, symmetric, most, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    options = {"temperature": temperature, "sharpness": sharpness, "symmetric": symmetric}
    expected = naive(*rows(n), **options)
    assert float(cwcl(*rows(n), **options)) == pytest.approx(expected, abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("symmetric", [False, True])
def test_with_sharp_weights_of_unlike_items_it_is_info_nce(symmetric):
    left, right, _ = rows(9)
    unlike = torch.eye(9, dtype=torch.float64)
    sharp = cwcl(left, right, unlike, temperature=0.1, sharpness=60, symmetric=symmetric)
    plain = info_nce(left, right, temperature=0.1)
    torch.testing.assert_close(sharp, plain, rtol=0, atol=1e-9)
    soft = cwcl(left, right, unlike, temperature=0.1, symmetric=symmetric)
    assert abs(float(soft - plain)) > 0.1


def test_opposite_items_have_no_part_in_each_other():
    left, right, _ = rows(2)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    ours = cwcl(left, right, opposite, temperature=0.1, symmetric=True)
    torch.testing.assert_close(ours, info_nce(left, right, temperature=0.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_orthonormal_pairs_of_one_and_the_same_item_cost_the_closed_form(n):
    apart = torch.eye(n, dtype=torch.float64)
    same = unit_rows(1, 4).expand(n, 4)
    log_sum = math.log(math.exp(1 / 0.3) + n - 1)
    expected = log_sum - (1 / n + 1) / (2 * 0.3)
    assert float(cwcl(apart, apart, same, temperature=0.3)) == pytest.approx(expected, abs=1e-9)
    both = cwcl(apart, apart, same, temperature=0.3, symmetric=True)
    assert float(both) == pytest.approx(log_sum - 1 / (n * 0.3), abs=1e-9)


def test_weighting_both_directions_is_another_loss_whose_sides_may_be_swapped():
    left, right, frozen = rows(9)
    there, back = (
        cwcl(*pair, frozen, temperature=0.1, symmetric=True)
        for pair in ((left, right), (right, left))
    )
    torch.testing.assert_close(there, back, rtol=0, atol=1e-12)
    one, other = (cwcl(*pair, frozen, temperature=0.1) for pair in ((left, right), (right, left)))
    assert abs(float(one - other)) > 1e-3
    torch.testing.assert_close(
        one + other, there + info_nce(left, right, temperature=0.1), rtol=0, atol=1e-12
    )


def test_the_order_of_items_does_not_matter():
    order = torch.randperm(9, generator=torch.Generator().manual_seed(5))
    plain, shuffled = (
        cwcl(*items, temperature=0.1) for items in (rows(9), [side[order] for side in rows(9)])
    )
    torch.testing.assert_close(plain, shuffled, rtol=0, atol=1e-12)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_gradient_is_that_of_the_value(symmetric):
    left, right, frozen = rows(4, d=3)
    assert torch.autograd.gradcheck(
        lambda a, b: cwcl(a, b, frozen, temperature=0.3, sharpness=1.5, symmetric=symmetric),
        (left.requires_grad_(), right.requires_grad_()),
    )


def test_the_frozen_side_gets_no_gradient():
    left, right, frozen = (side.requires_grad_() for side in rows(4))
    cwcl(left, right, frozen, temperature=0.3).backward()
    assert left.grad is not None
    assert frozen.grad is None


def test_weights_of_half_precision_embeddings_are_computed_in_single():
    left, right, frozen = rows(4, f=64)
    half = frozen.half()
    ours = cwcl(left.float(), right.float(), half, temperature=0.1)
    exact = cwcl(left, right, half.double(), temperature=0.1)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=2e-6)


def test_a_cosine_that_rounding_puts_below_minus_one_has_weight_zero():
    left, right, _ = rows(2)
    beyond = torch.tensor([[1.0, 0.0], [-1.0 - 1e-7, 0.0]], dtype=torch.float64)
    ours = cwcl(left, right, beyond, temperature=0.1, sharpness=0.5, symmetric=True)
    torch.testing.assert_close(ours, info_nce(left, right, temperature=0.1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("sizes", [(1, 5, 5), (5, 7, 5), (5, 5, 1), (5, 5, 7), (5, 7, 7)])
def test_items_that_one_of_the_three_lacks_are_refused(sizes):
    with pytest.raises(ValueError, match=f"{sizes[0]} left, {sizes[1]} right and {sizes[2]} froz"):
        cwcl(*(unit_rows(n, 4) for n in sizes), temperature=0.1)
