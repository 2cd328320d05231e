from __future__ import annotations

import pytest
import torch

from bridge.noise import add_noise
from tests.bridge.conftest import unit_rows


def noisy(rows: torch.Tensor, variance: float, seed: int = 0) -> torch.Tensor:
    return add_noise(rows, variance=variance, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variance", [1e-6, 0.004, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_keep_unit_norm_shape_and_dtype(variance, dtype):
    rows = unit_rows(20, 16, dtype=dtype)
    result = noisy(rows, variance)
    assert (result.shape, result.dtype) == (rows.shape, dtype)
    torch.testing.assert_close(result.norm(dim=1), torch.ones(20, dtype=dtype))


@pytest.mark.parametrize(("d", "variance"), [(512, 0.004), (512, 0.001), (1024, 0.01)])
def test_the_mean_cosine_is_what_the_variance_in_every_dimension_implies(d, variance):
    # One dimension lies along the row and d - 1 across it: cosine = 1 / sqrt(1 + (d - 1) s^2).
    rows = unit_rows(2000, d, seed=9)
    cosines = (noisy(rows, variance) * rows).sum(dim=1)
    expected = (1 + (d - 1) * variance) ** -0.5
    assert float(cosines.mean()) == pytest.approx(expected, rel=0.01)


def test_noise_is_the_same_in_every_dimension():
    rows = torch.eye(1, 6, dtype=torch.float64).expand(40_000, 6)
    across = noisy(rows, 1e-4)[:, 1:]  # small enough that normalisation hardly matters
    torch.testing.assert_close(
        across.var(dim=0), torch.full((5,), 1e-4, dtype=torch.float64), rtol=0.04, atol=0
    )
    assert float(across.mean(dim=0).abs().max()) < 2e-4


def test_no_variance_changes_nothing():
    rows = unit_rows(5, 4)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(add_noise(rows, variance=0, generator=generator), rows)


def test_the_generator_decides_the_noise_and_moves_on():
    rows = unit_rows(5, 4)
    assert torch.equal(noisy(rows, 0.1, seed=1), noisy(rows, 0.1, seed=1))
    assert not torch.allclose(noisy(rows, 0.1, seed=1), noisy(rows, 0.1, seed=2))
    generator = torch.Generator().manual_seed(1)
    first, second = (add_noise(rows, variance=0.1, generator=generator) for _ in range(2))
    assert not torch.allclose(first, second)


def test_the_global_generator_and_the_input_stay_untouched():
    rows = unit_rows(5, 4)
    before, copy = torch.get_rng_state(), rows.clone()
    noisy(rows, 0.1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(rows, copy)
