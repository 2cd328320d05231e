"""Recall curves, against counting, and chance against drawing."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.evaluation.diagnostics import diagnostics_result
from bridge.evaluation.retrieval_result import retrieval_result
from bridge.pictures.canvas import COLUMN, Style, rendered
from bridge.pictures.recall import chance_recall, recall_at, recall_curves, recall_figure
from features.errors import UserError
from tests.bridge.conftest import CLASSES
from tests.bridge.pictures.words import check_words


@pytest.fixture(scope="module")
def result(world, made):
    return retrieval_result(*world.test, bridge=made, resamples=0)


def test_recall_is_the_share_of_queries_with_a_rank_of_at_most_k():
    ranks = np.array([1, 3, 3, 7])
    assert recall_at(ranks, np.arange(1, 8)).tolist() == [0.25, 0.25, 0.75, 0.75, 0.75, 0.75, 1.0]


def test_curves_agree_with_the_figures_of_the_result(result):
    data = recall_curves([("made", result)])
    assert list(data.directions) == ["audio -> image", "image -> audio"]
    for part, (curve,) in data.directions.items():
        for k in (1, 5, 10):
            assert curve.recall[k - 1] == pytest.approx(result.figures[part][f"R@{k}"])


def test_chance_is_that_of_a_random_order(result):
    rng = np.random.default_rng(0)
    order = np.argsort(rng.random((40_000, 12)), axis=1)  # items 0, 1 and 2 are right
    drawn = [(order[:, :k] < 3).any(axis=1).mean() for k in range(1, 13)]
    np.testing.assert_allclose(chance_recall(3, 12, np.arange(1, 13)), drawn, atol=0.01)
    data = recall_curves([("made", result)])
    for part in data.directions:
        assert data.chance[part][0] == pytest.approx(1 / CLASSES)
        assert data.chance[part][-1] == pytest.approx(1)


@pytest.mark.parametrize("width", [COLUMN, 6.9])
def test_words_are_apart(result, width):
    style = Style(width=width)
    data = recall_curves([(f"bridge {i}", result) for i in range(3)])
    words = check_words(recall_figure(data, style), style)
    assert {"bridge 0", "bridge 2", "chance", "audio → image"} <= set(words)
    first, second = (rendered(recall_figure(data, style), "svg", style) for _ in range(2))
    assert first == second


def test_results_without_ranks_are_refused(world):
    other = diagnostics_result([world.test[0], world.hub[0]])
    with pytest.raises(UserError, match=r"d\.json is a result of diagnostics, which has no ranks"):
        recall_curves([("d.json", other)])
    with pytest.raises(UserError, match="nothing to draw"):
        recall_curves([])
