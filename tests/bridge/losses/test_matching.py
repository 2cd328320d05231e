from __future__ import annotations

import pytest
import torch

from bridge.losses.matching import hard_negatives, masked_words, matching
from tests.bridge import naive_tcl


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_matching_is_the_formula_however_many_do_not_match():
    positive, right, left = normal(5), normal(4, seed=1), normal(2, seed=2)
    expected = naive_tcl.matching(positive.tolist(), [*right.tolist(), *left.tolist()])
    assert matching(positive, right, left).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_masked_words_is_the_formula(alpha):
    logits, teacher = normal(3, 4, 6), normal(3, 4, 6, seed=1)
    words = torch.randint(6, (3, 4), generator=torch.Generator().manual_seed(2))
    masked = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
    found = masked_words(logits, words, masked, teacher=teacher, alpha=alpha)
    expected = naive_tcl.masked_words(
        logits.tolist(), words.tolist(), masked.tolist(), teacher.tolist(), alpha
    )
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_nothing_masked_costs_nothing():
    logits = normal(2, 3, 4).requires_grad_()
    cost = masked_words(logits, torch.zeros(2, 3).long(), torch.zeros(2, 3).bool())
    cost.backward()
    assert cost.item() == 0.0
    assert (logits.grad == 0).all()


def test_gradients():
    words, masked = torch.tensor([[1, 2]]), torch.tensor([[True, False]])
    teacher = normal(1, 2, 3, seed=4)
    inputs = [normal(2, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(matching, inputs)

    def words_of(logits):
        return masked_words(logits, words, masked, teacher=teacher, alpha=0.4)

    assert torch.autograd.gradcheck(words_of, normal(1, 2, 3).requires_grad_())


def test_negatives_are_drawn_as_often_as_the_softmax_says():
    logits = torch.tensor([[9.0, 0.0, 1.0, 2.0]]).expand(20_000, 4)
    excluded = torch.tensor([[True, False, False, False]]).expand(20_000, 4)
    rows, drawn = hard_negatives(logits, excluded, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rows, torch.arange(20_000))
    expected = torch.tensor([0.0, 1.0, 2.0]).softmax(0)
    shares = drawn.bincount(minlength=4) / len(drawn)
    assert shares[0] == 0
    torch.testing.assert_close(shares[1:], expected, atol=0.01, rtol=0)


def test_where_everything_is_excluded_there_is_no_negative():
    noise = torch.Generator().manual_seed(0)
    excluded = torch.tensor([[True, True, True], [False, True, True], [True, True, True]])
    rows, drawn = hard_negatives(torch.zeros(3, 3), excluded, generator=noise)
    assert (rows.tolist(), drawn.tolist()) == ([1], [0])
    rows, drawn = hard_negatives(torch.zeros(3, 3), torch.ones(3, 3).bool(), generator=noise)
    assert (rows.tolist(), drawn.tolist()) == ([], [])
    positive = normal(3)
    only = matching(positive, positive[rows], positive[rows])
    assert only.item() == pytest.approx(naive_tcl.matching(positive.tolist(), []), abs=1e-12)
