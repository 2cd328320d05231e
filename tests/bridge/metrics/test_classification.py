from __future__ import annotations

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional as F

from bridge.metrics.classification import class_embeddings, class_ranks, mean_over_classes


def test_a_table_worked_by_hand():
    # Classes a, b, c, d, e; c and e have no item.
    scores = torch.tensor(
        [
            [0.9, 0.1, 0.3, 0.2, 0.0],  # a: first
            [0.9, 0.8, 0.3, 0.2, 0.0],  # b: second
            [0.4, 0.8, 0.3, 0.2, 0.0],  # b: first
            [0.9, 0.8, 0.7, 0.2, 0.0],  # d: fourth
            [0.9, 0.8, 0.9, 0.9, 0.0],  # d: ties with two classes, so third
        ]
    )
    target = torch.tensor([0, 1, 1, 3, 3])
    ranks = class_ranks(scores, target)
    assert ranks.tolist() == [1, 2, 1, 4, 3]
    counts = torch.tensor([[1, 1, 1, 1, 1], [0, 2, 1, 0, 0], [5, 0, 0, 1, 0]])
    shares = [(1 + 1 / 2 + 0) / 3, 1 / 3, (1 + 0) / 2]
    assert mean_over_classes(ranks == 1, target, counts).tolist() == pytest.approx(shares)


def test_the_mean_over_classes_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(200, 12, generator=generator, dtype=torch.float64)
    target = torch.randint(12, (200,), generator=generator)
    counts = torch.randint(4, (5, 200), generator=generator).double()
    right = class_ranks(scores, target) == 1
    expected = [
        balanced_accuracy_score(
            target.numpy(), scores.argmax(dim=1).numpy(), sample_weight=times.numpy()
        )
        for times in counts
    ]
    found = mean_over_classes(right, target, counts)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_a_class_is_the_mean_of_its_prompts():
    generator = torch.Generator().manual_seed(1)
    prompts = F.normalize(torch.randn(3, 4, 5, generator=generator, dtype=torch.float64), dim=-1)
    for mean, rows in zip(class_embeddings(prompts), prompts, strict=True):
        total = sum(rows)
        torch.testing.assert_close(mean, total / total.square().sum().sqrt())


def test_prompts_that_cancel_out_give_no_direction_and_no_nan():
    opposite = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    assert class_embeddings(opposite).tolist() == [[0.0, 0.0]]
