from __future__ import annotations

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch.nn import functional as F

from bridge.metrics.classification import class_embeddings, class_ranks, classification


def test_a_table_worked_by_hand():
    # Classes a, b, c, d; c has no item.
    scores = torch.tensor(
        [
            [0.9, 0.1, 0.3, 0.2],  # a: first
            [0.9, 0.8, 0.3, 0.2],  # b: second
            [0.4, 0.8, 0.3, 0.2],  # b: first
            [0.9, 0.8, 0.7, 0.2],  # d: fourth
            [0.9, 0.8, 0.9, 0.9],  # d: ties with two classes, so third
        ]
    )
    target = torch.tensor([0, 1, 1, 3, 3])
    ranks = class_ranks(scores, target)
    assert ranks.tolist() == [1, 2, 1, 4, 3]
    found = classification(ranks, target, 4)
    assert found.top == {1: 2 / 5, 3: 4 / 5, 5: 1.0}
    assert found.per_class == (1 + 1 / 2 + 0) / 3
    assert (found.items, found.empty) == (5, 1)


def test_figures_are_scikit_learns_where_nothing_ties():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(200, 12, generator=generator, dtype=torch.float64)
    target = torch.randint(12, (200,), generator=generator)
    found = classification(class_ranks(scores, target), target, 12)
    for k, share in found.top.items():
        expected = top_k_accuracy_score(target.numpy(), scores.numpy(), k=k)
        assert share == pytest.approx(expected, abs=1e-12)
    expected = balanced_accuracy_score(target.numpy(), scores.argmax(dim=1).numpy())
    assert found.per_class == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_collapsed_space_gets_the_worst_figures(value):
    target = torch.tensor([0, 1, 2, 3, 4, 5])
    found = classification(class_ranks(torch.full((6, 6), value), target), target, 6)
    assert found.top == {1: 0.0, 3: 0.0, 5: 0.0}
    assert found.per_class == 0.0


def test_a_class_is_the_mean_of_its_prompts():
    generator = torch.Generator().manual_seed(1)
    prompts = F.normalize(torch.randn(3, 4, 5, generator=generator, dtype=torch.float64), dim=-1)
    for mean, rows in zip(class_embeddings(prompts), prompts, strict=True):
        total = sum(rows)
        torch.testing.assert_close(mean, total / total.square().sum().sqrt())


def test_prompts_that_cancel_out_give_no_direction_and_no_nan():
    opposite = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    assert class_embeddings(opposite).tolist() == [[0.0, 0.0]]
