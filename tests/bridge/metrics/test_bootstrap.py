from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

from bridge.metrics import bootstrap
from bridge.metrics.bootstrap import MIN_RESAMPLES, p_value, percentile_interval, resampled_means


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_means(totals, sizes, *, resamples: int, seed: int = 0) -> torch.Tensor:
    blocks = resampled_means(totals, sizes, resamples=resamples, generator=seeded(seed))
    return torch.cat(list(blocks))


def single(values: torch.Tensor, *, resamples: int, seed: int = 0) -> torch.Tensor:
    """Means of one measure where every unit holds one query."""
    column = values[:, None].double()
    return all_means(column, torch.ones_like(column), resamples=resamples, seed=seed)[:, 0]


def test_means_are_those_of_a_slow_loop_over_the_same_draws():
    rng = np.random.default_rng(0)
    # Unit i holds sizes[i] queries, with figures of two measures that not all of them have.
    sizes = rng.integers(1, 5, (7, 2))
    figures = [[rng.random(sizes[i, m]) for m in range(2)] for i in range(7)]
    totals = torch.tensor([[figures[i][m].sum() for m in range(2)] for i in range(7)])
    found = all_means(totals, torch.tensor(sizes, dtype=torch.float64), resamples=60, seed=4)
    draws = torch.randint(7, (60, 7), generator=seeded(4)).tolist()
    expected = [
        [np.concatenate([figures[i][m] for i in draw]).mean() for m in range(2)] for draw in draws
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_draws_do_not_depend_on_the_block(monkeypatch):
    values = torch.rand(31, generator=seeded(1))
    whole = single(values, resamples=50)
    monkeypatch.setattr(bootstrap, "DRAWS_AT_A_TIME", 31 * 7)
    column = values[:, None].double()
    blocks = list(
        resampled_means(column, torch.ones_like(column), resamples=50, generator=seeded())
    )
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    torch.testing.assert_close(torch.cat(blocks)[:, 0], whole, rtol=0, atol=1e-14)


def test_the_interval_is_the_normal_one_where_there_are_many_queries():
    values = torch.randn(2000, generator=seeded(2)) + 0.03
    low, high = percentile_interval(single(values, resamples=4000))
    spread = 1.96 * float(values.std()) / 2000**0.5
    assert float(low) == pytest.approx(float(values.mean()) - spread, abs=0.05 * spread)
    assert float(high) == pytest.approx(float(values.mean()) + spread, abs=0.05 * spread)


def test_p_is_the_normal_one_where_there_are_many_queries():
    values = torch.randn(2000, generator=seeded(3))
    values += 1.5 * values.std() / 2000**0.5 - values.mean()  # one and a half standard errors
    assert float(p_value(single(values, resamples=4000))) == pytest.approx(0.1336, abs=0.02)


@pytest.mark.parametrize(
    ("resampled", "expected"),
    [
        ([0.0] * 99, 1.0),
        ([1.0] * 99, 0.02),
        ([-1.0] * 99, 0.02),
        ([1.0] * 97 + [0.0, -1.0], 0.06),  # zero lies at both ends
        ([1.0] * 50 + [-1.0] * 49, 1.0),
    ],
)
def test_p_worked_by_hand(resampled, expected):
    assert float(p_value(torch.tensor(resampled))) == pytest.approx(expected)


@pytest.mark.parametrize("resamples", [MIN_RESAMPLES, 79, 100, 1000])
def test_an_interval_leaves_out_zero_exactly_where_p_is_at_most_5_percent(resamples):
    outcomes = set()
    for below in range(resamples + 1):
        resampled = torch.tensor([-1.0] * below + [1.0] * (resamples - below))
        low, high = percentile_interval(resampled)
        outside = bool(low > 0) or bool(high < 0)
        assert outside == (float(p_value(resampled)) <= 0.05), below
        outcomes.add(outside)
    assert outcomes == {True, False}


def test_the_other_order_gives_the_other_sign():
    resampled = single(torch.randn(40, generator=seeded(5)), resamples=500)
    low, high = percentile_interval(resampled)
    assert percentile_interval(-resampled) == (-high, -low)
    assert low < high
    assert p_value(-resampled) == p_value(resampled)


def outside(values: torch.Tensor, *, clusters: bool, truth: float = 0.0) -> bool:
    """Whether the interval misses the truth; `values` (c, n) are n queries of c classes each."""
    totals = values.sum(dim=1, keepdim=True) if clusters else values.reshape(-1, 1)
    sizes = torch.full_like(totals, values.shape[1] if clusters else 1)
    low, high = percentile_interval(all_means(totals, sizes, resamples=199))
    return not float(low) <= truth <= float(high)


def test_intervals_of_whole_classes_cover_the_truth_and_those_of_their_queries_do_not():
    generator = seeded(6)
    worlds = [
        0.3 + torch.randn(60, 1, generator=generator) + torch.randn(60, 10, generator=generator)
        for _ in range(300)
    ]
    missed = [
        np.mean([outside(one.double(), clusters=clusters, truth=0.3) for one in worlds])
        for clusters in (True, False)
    ]
    assert 0.02 <= missed[0] <= 0.09  # 5 % in truth
    assert missed[1] > 0.3


def test_the_examples_in_the_documentation_are_true():
    result = doctest.testmod(bootstrap, extraglobs={"torch": torch})
    assert (result.attempted, result.failed) == (5, 0)


def test_samples_are_drawn_with_their_units_however_many_they_are(monkeypatch):
    unit = torch.tensor([0, 1, 1, 2, 0])

    def drawn() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.cat([*bootstrap.resampled_samples(unit, resamples=9, generator=generator)])

    whole = drawn()
    by_unit = torch.cat(
        [*bootstrap.resampled_counts(3, resamples=9, generator=torch.Generator().manual_seed(0))]
    )
    assert torch.equal(whole, by_unit[:, unit])
    assert by_unit.sum(dim=1).tolist() == [3] * 9
    monkeypatch.setattr(bootstrap, "DRAWS_AT_A_TIME", 7)
    assert torch.equal(drawn(), whole)


@pytest.mark.parametrize("seed", range(4))
def test_a_weighted_median_is_that_of_the_repeated_values(seed):
    rng = np.random.default_rng(seed)
    values, counts = rng.integers(0, 6, 11).astype(float), rng.integers(0, 4, (5, 11))
    told = bootstrap.weighted_median(torch.from_numpy(values), torch.from_numpy(counts).double())
    assert told.tolist() == [np.median(np.repeat(values, times)) for times in counts]
