"""The figures that evaluations ship, against scikit-learn, once and as a bootstrap draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, balanced_accuracy_score, top_k_accuracy_score

from bridge.evaluation.statistics import localisation_figures, zero_shot_figures
from bridge.metrics.classification import class_ranks

N, CLASSES = 200, 12


@pytest.fixture
def counts() -> torch.Tensor:
    """Every sample once, and then as often as three resamples drew it."""
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randint(N, (N,), generator=generator).bincount(minlength=N) for _ in range(3)]
    return torch.stack([torch.ones(N, dtype=torch.int64), *drawn]).double()


def columns(scores: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """As a result holds them: numbers in float64."""
    return {"rank": class_ranks(scores, target).double(), "class": target.double()}


def test_zero_shot_figures_are_scikit_learns_where_nothing_ties(counts):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(N, CLASSES, generator=generator, dtype=torch.float64)
    target = torch.randint(CLASSES, (N,), generator=generator)
    found = zero_shot_figures(columns(scores, target), counts)
    truth, best = target.numpy(), scores.argmax(dim=1).numpy()
    for row, times in enumerate(counts.numpy()):
        expected = {
            f"top-{k}": top_k_accuracy_score(truth, scores.numpy(), k=k, sample_weight=times)
            for k in (1, 3, 5)
        }
        expected["per class"] = balanced_accuracy_score(truth, best, sample_weight=times)
        told = {name: float(values[row]) for name, values in found.items()}
        assert told == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_collapsed_space_gets_the_worst_figures(value):
    target = torch.arange(6)
    found = zero_shot_figures(
        columns(torch.full((6, 6), value), target), torch.ones(1, 6, dtype=torch.float64)
    )
    assert {name: float(values) for name, values in found.items()} == {
        "top-1": 0.0, "top-3": 0.0, "top-5": 0.0, "per class": 0.0
    }  # fmt: skip


def test_localisation_figures_are_scikit_learns(counts):
    ious = np.random.default_rng(1).random(N)
    ious[:21] = np.arange(21) / 20  # exactly at every threshold
    found = localisation_figures({"ciou": torch.tensor(ious)}, counts)
    thresholds = np.arange(21) / 20
    for row, times in enumerate(counts.numpy()):
        shares = [np.average(ious >= one, weights=times) for one in thresholds]
        told = {name: float(values[row]) for name, values in found.items()}
        expected = {
            "success at 0.5": shares[10],
            "AUC": auc(thresholds, shares),
            "mean cIoU": np.average(ious, weights=times),
        }
        assert told == pytest.approx(expected, abs=1e-12)
