"""Exact search finds the rows that float64 finds, whatever format its first scores are made in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import UserError
from features.search import fast_scores, nearest
from features.search.fast_scores import fast_queries, fast_rows, scores, stored_rows
from features.search.nearest import ExactSearch
from tests.features.helpers import saved

CPU = torch.device("cpu")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def _normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    made = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(made, dim=1)


def _naive(
    queries: torch.Tensor, rows: torch.Tensor, k: int, *, unit: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Every score in float64, sorted by score and then by row."""
    wide = rows.double().numpy()
    found, kept = [], []
    for query in queries.double().numpy():
        score = (wide * query).sum(1)
        if unit:
            score = score / np.sqrt((wide**2).sum(1))
        order = np.lexsort((np.arange(len(score)), -score))[:k]
        found.append(score[order])
        kept.append(order)
    return np.stack(found), np.stack(kept)


def _all_ways(
    queries: torch.Tensor, rows: torch.Tensor, k: int, *, unit: bool = False
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Together and one by one, which take different routes, kept and for one search."""
    kept = ExactSearch(rows, unit=unit)
    singly = [kept.search(query[None], k) for query in queries]
    once = [nearest.nearest(query[None], rows, k, unit=unit) for query in queries]
    joined = [
        (torch.cat([one for one, _ in found]), torch.cat([one for _, one in found]))
        for found in (singly, once)
    ]
    return [kept.search(queries, k), nearest.nearest(queries, rows, k, unit=unit), *joined]


def _agrees(queries: torch.Tensor, rows: torch.Tensor, k: int, *, unit: bool = False) -> None:
    expected, kept = _naive(queries, rows, k, unit=unit)
    for found, where in _all_ways(queries, rows, k, unit=unit):
        np.testing.assert_array_equal(where.numpy(), kept)
        assert found.dtype == queries.dtype
        scale = np.abs(expected).max() or 1
        np.testing.assert_allclose(found.double().numpy() / scale, expected / scale, atol=2e-7)


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def format_of_scores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_scores, "fast_dtype", lambda _: request.param)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few hundred rows take many blocks, groups, settlements and parts of queries."""
    settings = {"_GROUP": 4, "_SCORES": 200, "_BLOCK": 64, "_QUERIES": 5, "_PENDING": 30}
    for name, value in settings.items():
        monkeypatch.setattr(nearest, name, value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("k", [1, 3, 400])
@pytest.mark.usefixtures("format_of_scores", "small_blocks")
def test_random_rows(dtype: torch.dtype, unit: bool, k: int) -> None:
    rows = (_normal(371, 24) * (1 + 0.5 * torch.rand(371, 1))).to(dtype)
    _agrees(_normal(12, 24, seed=1).float(), rows, k, unit=unit)


@pytest.mark.usefixtures("format_of_scores")
def test_many_rows_in_blocks_of_the_usual_size() -> None:
    rows, queries = _normal(30_011, 64).half(), _normal(40, 64, seed=1).float()
    _agrees(queries, rows, 10, unit=True)


@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-6, 1e-3])
@pytest.mark.usefixtures("format_of_scores", "small_blocks")
def test_rows_that_bfloat16_cannot_tell_apart(gap: float) -> None:
    """Scores from a ramp far finer than the error of the first scores, in shuffled order."""
    base = _normal(1, 16)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    rows = base * (1 + gap * order[:, None].double())
    _agrees(base, rows, 7)
    _agrees(-base, rows, 7)


@pytest.mark.usefixtures("format_of_scores", "small_blocks")
def test_of_equal_rows_the_first_is_nearest() -> None:
    rows = _normal(5, 33, seed=3).half()[torch.arange(400) % 5]
    _agrees(_normal(6, 33, seed=4).float(), rows, 90, unit=True)
    (_, found) = nearest.nearest(rows[2:3].float(), rows, 3)
    assert found.tolist() == [[2, 7, 12]]


@pytest.mark.usefixtures("format_of_scores", "small_blocks")
def test_one_dominant_row_and_one_row() -> None:
    rows = _normal(200, 8, seed=5) * 1e-3
    rows[150] = 1e3 * rows[150]
    _agrees(_normal(3, 8, seed=6).float(), rows.float(), 2)
    _agrees(_normal(3, 8, seed=6).float(), rows[:1].float(), 10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e4, 1e15])
@pytest.mark.usefixtures("format_of_scores", "small_blocks")
def test_sizes_far_from_one(dtype: torch.dtype, scale: float) -> None:
    """Among them products that float16 or float32 cannot hold, or takes for zero."""
    queries = (_normal(4, 20, seed=7) * scale).float()
    rows = _normal(300, 20, seed=8) * (1 if dtype == torch.float32 else 50)
    _agrees(queries, rows.to(dtype), 5)
    _agrees(_normal(4, 20, seed=7).float(), (rows * scale).float(), 5)


@pytest.mark.usefixtures("format_of_scores", "small_blocks")
def test_a_query_of_zeros_finds_the_first_rows() -> None:
    _agrees(torch.zeros(2, 6), _normal(100, 6).float(), 4)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 20), st.integers(1, 9), st.integers(1, 40),
    st.sampled_from(DTYPES), st.sampled_from([1.0, 2**-6, 2**-2]), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_any_shape(
    n: int, d: int, q: int, k: int, dtype: torch.dtype, grid: float, unit: bool, seed: int
) -> None:
    """On a grid, so that there are ties, between rows that are not equal as well."""
    rows = (_normal(n, d, seed) / grid).round() * grid
    rows[rows.abs().sum(1) == 0] = 1
    queries = (_normal(q, d, seed + 1) * 8).round() / 8
    if unit:  # sums of squares are rounded, so ties between other rows are matters of order
        queries, rows = _normal(q, d, seed + 1), _normal(n, d, seed)
    _agrees(queries.float(), rows.to(dtype), min(k, n), unit=unit)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("d", [1, 7, 512])
@pytest.mark.parametrize("make", ["many", "few"])
@pytest.mark.usefixtures("format_of_scores")
def test_no_fast_score_is_further_off_than_its_bound(unit: bool, d: int, make: str) -> None:
    # Every other row and query on the worst place of the grids of half and bfloat16.
    rows = (_normal(500, d, seed=9) * 3).half()
    queries = _normal(2, d, seed=10)
    queries[1] = queries[1].sign() * (1 + 2.0**-9) / d**0.5
    rows[::2] = (rows[::2].sign() * (1 + 2.0**-8 - 2.0**-10) / d**0.5).half()
    ready = (
        fast_rows(rows, unit=unit, device=CPU) if make == "many" else stored_rows(rows, unit=unit)
    )
    fast = fast_queries(queries, ready)
    found = scores(ready, 0, 500, fast, fast.rows.new_empty(500, 2)).double()
    wide = rows.double()
    exact = wide @ queries.T / (wide.norm(dim=1, keepdim=True) if unit else 1)
    off = (found - exact).abs()
    assert (off <= fast.error + fast.relative * found.abs()).all()
    assert fast.error.max() < 0.006 * queries.norm(dim=1).max() * ready.length  # is of use
    assert (found.float() >= fast.floor(exact.min(dim=0).values)).all()
    assert (exact >= fast.least_score(found.float().min(dim=0).values) - 1e-12).all()


@pytest.mark.usefixtures("small_blocks")
def test_the_bound_is_what_keeps_the_answer_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, bfloat16 loses neighbours: the test above would notice."""
    monkeypatch.setattr(fast_scores, "fast_dtype", lambda _: torch.bfloat16)
    honest = fast_scores.fast_queries

    def careless(queries: torch.Tensor, against: fast_scores.FastRows) -> fast_scores.FastQueries:
        return fast_scores.FastQueries(
            honest(queries, against).rows, torch.zeros(len(queries), dtype=torch.float64), 0.0
        )

    rows = (_normal(1, 32) + 1e-3 * _normal(2000, 32, seed=11)).float()
    queries = _normal(50, 32, seed=12).float()
    _, expected = _naive(queries, rows, 10)
    np.testing.assert_array_equal(ExactSearch(rows).search(queries, 10)[1].numpy(), expected)
    monkeypatch.setattr(nearest, "fast_queries", careless)
    assert (ExactSearch(rows).search(queries, 10)[1].numpy() != expected).any()


@pytest.mark.usefixtures("small_blocks")
def test_lowered_precision_of_float32_products_is_allowed_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_scores, "fast_dtype", lambda _: torch.float32)
    rows, queries = _normal(3000, 64, seed=13).float(), _normal(9, 64, seed=14).float()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        _agrees(queries, rows, 10)
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_memory_is_searched_on_disk_and_left_alone(tmp_path: Path) -> None:
    memory = saved(tmp_path / "m.h5", n=300, d=16)
    queries = _normal(3, 16, seed=15).float()
    before = memory.path.read_bytes()
    expected, kept = _naive(queries, torch.from_numpy(np.array(memory.embeddings)), 5, unit=True)
    found, where = nearest.nearest(queries, memory.embeddings, 5, unit=True)
    np.testing.assert_array_equal(where.numpy(), kept)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert memory.path.read_bytes() == before


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    rows, queries = _normal(50, 8).float(), _normal(4, 8, seed=1).float()
    wrong = rows.clone()
    wrong[33, 2] = bad
    with pytest.raises(UserError, match="the rows to search hold NaN or infinite values"):
        ExactSearch(wrong)
    with pytest.raises(UserError, match="the rows to search hold NaN or infinite values"):
        nearest.nearest(queries[:1], wrong.half(), 3)
    queries[1, 1] = bad
    with pytest.raises(UserError, match="the queries hold NaN, infinite or too large values"):
        nearest.nearest(queries, rows, 3)


def test_what_cannot_be_compared_is_refused() -> None:
    rows = _normal(50, 8).float()
    with pytest.raises(UserError, match=r"rows to search have 8 dimensions but .* shape \(2, 7\)"):
        nearest.nearest(torch.ones(2, 7), rows, 3)
    rows[5] = 0
    with pytest.raises(UserError, match=r"norms from 0 to 1 and cannot be compared by cosine"):
        ExactSearch(rows, unit=True)


def test_no_queries_and_no_neighbours() -> None:
    rows = _normal(50, 8).float()
    assert [tuple(one.shape) for one in nearest.nearest(rows[:0], rows, 3)] == [(0, 3)] * 2
    assert [tuple(one.shape) for one in ExactSearch(rows).search(rows[:2], 0)] == [(2, 0)] * 2
