from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import average_precision_score

from bridge.metrics.retrieval import average_precision, first_ranks, paired_retrieval, retrieval

T, F = True, False
CASES = [
    # scores, right items, rank of the first right one, average precision
    ([0.9, 0.5, 0.1], [T, F, F], 1, 1.0),
    ([0.9, 0.5, 0.1], [F, F, T], 3, 1 / 3),
    ([0.1, 0.5, 0.9], [F, F, T], 1, 1.0),
    ([4, 3, 2, 1], [T, F, T, F], 1, (1 / 1 + 2 / 3) / 2),
    ([4, 3, 2, 1], [F, T, F, T], 2, (1 / 2 + 2 / 4) / 2),
    ([4, 3, 2, 1], [T, T, T, T], 1, 1.0),
    ([-1, -2, -3, -4], [F, F, T, T], 3, (1 / 3 + 2 / 4) / 2),
    ([1], [T], 1, 1.0),
    # ties: the right item comes after every wrong one of the same score
    ([1, 1, 1, 1], [T, F, F, F], 4, 1 / 4),
    ([1, 1, 1, 1], [T, T, F, F], 3, (1 / 3 + 2 / 4) / 2),
    ([2, 2, 1], [T, F, F], 2, 1 / 2),
    ([2, 1, 1], [T, F, T], 1, (1 / 1 + 2 / 3) / 2),
    ([2, 1, 1], [F, T, F], 3, 1 / 3),
    ([0.0, -0.0], [T, F], 2, 1 / 2),
]


@pytest.mark.parametrize(("scores", "right", "rank", "precision"), CASES)
def test_ranks_and_precisions_worked_by_hand(scores, right, rank, precision):
    row, relevant = torch.tensor([scores], dtype=torch.float32), torch.tensor([right])
    assert first_ranks(row, relevant).tolist() == [rank]
    assert average_precision(row, relevant).tolist() == pytest.approx([precision])


def test_average_precision_is_scikit_learns_where_nothing_ties():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 50, generator=generator)
    relevant = torch.rand(30, 50, generator=generator) < 0.2
    relevant[:, 0] = True
    expected = [
        average_precision_score(right.numpy(), row.numpy())
        for row, right in zip(scores, relevant, strict=True)
    ]
    assert average_precision(scores, relevant).tolist() == pytest.approx(expected, abs=1e-12)


def test_figures_of_a_matrix_worked_by_hand():
    # True pairs on the diagonal; their ranks are 1, 2, 3 and 1.
    scores = torch.tensor(
        [
            [0.9, 0.1, 0.2, 0.3],
            [0.8, 0.7, 0.1, 0.0],
            [0.9, 0.8, 0.7, 0.6],
            [0.1, 0.2, 0.3, 0.4],
        ]
    )
    figures = paired_retrieval(scores)
    assert figures.recall == {1: 0.5, 5: 1.0, 10: 1.0}
    assert figures.median_rank == 1.5
    assert figures.mean_average_precision == pytest.approx((1 + 1 / 2 + 1 / 3 + 1) / 4)
    assert (figures.queries, figures.excluded) == (4, 0)


@pytest.mark.parametrize(("n", "recall"), [(3, (0, 1, 1)), (7, (0, 0, 1)), (20, (0, 0, 0))])
def test_a_collapsed_space_gets_the_worst_figures(n, recall):
    figures = paired_retrieval(torch.ones(n, n))
    assert tuple(figures.recall.values()) == recall
    assert figures.median_rank == n
    assert figures.mean_average_precision == pytest.approx(1 / n)


def test_queries_without_a_right_item_are_left_out_and_counted():
    scores = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    relevant = torch.tensor([[True, False], [False, False], [False, True]])
    figures = retrieval([(scores, relevant)])
    assert (figures.queries, figures.excluded) == (2, 1)
    assert figures.recall[1] == 0.5
    assert figures.mean_average_precision == pytest.approx(0.75)


def test_figures_are_not_numbers_when_no_query_is_left():
    figures = retrieval([(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))])
    assert (figures.queries, figures.excluded) == (0, 2)
    assert all(math.isnan(value) for value in figures.recall.values())
    assert math.isnan(figures.median_rank)
    assert math.isnan(figures.mean_average_precision)


def test_blocks_of_queries_give_the_figures_of_the_whole():
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(17, 9, generator=generator)
    relevant = torch.rand(17, 9, generator=generator) < 0.3
    whole = retrieval([(scores, relevant)])
    parts = retrieval(zip(scores.split(5), relevant.split(5), strict=True))
    assert parts == whole


def test_random_scores_reach_chance():
    scores = torch.rand(2000, 40, generator=torch.Generator().manual_seed(2))
    relevant = torch.zeros(2000, 40, dtype=torch.bool)
    relevant[:, :4] = True
    figures = retrieval([(scores, relevant)])
    assert figures.recall[1] == pytest.approx(4 / 40, abs=0.02)
    # At least one of 4 among the first 5 of 40, without replacement.
    expected = 1 - math.comb(36, 5) / math.comb(40, 5)
    assert figures.recall[5] == pytest.approx(expected, abs=0.03)


def test_scores_that_are_not_numbers_get_the_worst_figures():
    figures = paired_retrieval(torch.full((12, 12), torch.nan))
    assert figures.recall == {1: 0, 5: 0, 10: 0}
    assert figures.median_rank == 12
    assert figures.mean_average_precision == pytest.approx(1 / 12)


@pytest.mark.parametrize("kind", ["distinct", "ties", "nan", "infinite", "one"])
def test_pairs_have_the_figures_of_the_general_case(kind):
    scores = torch.randn(1 if kind == "one" else 40, 40, generator=torch.Generator().manual_seed(1))
    scores = scores[:, : len(scores)]
    if kind == "ties":
        scores = scores.round()
    if kind in ("nan", "infinite"):
        scores[scores > 1] = torch.nan if kind == "nan" else torch.inf
        scores[scores < -1] = -torch.inf
    right = torch.eye(len(scores), dtype=torch.bool)
    assert paired_retrieval(scores) == retrieval([(scores, right)])
