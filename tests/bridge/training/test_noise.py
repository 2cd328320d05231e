from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bridge.training import augment
from bridge.training.augment import noisy_rows
from bridge.training.noise import add_noise
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


def drawn(items: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A table, rows of it, and these with noise of variance 0.01."""
    table = unit_rows(items, d, seed=5, dtype=torch.float32)
    rows = torch.randint(items, (2 * items,), generator=torch.Generator().manual_seed(6))
    generator = torch.Generator().manual_seed(seed)
    return table, rows, noisy_rows(table, rows, variance=0.01, generator=generator)


def test_noise_of_a_batch_is_gaussian_and_of_no_two_rows_the_same():
    table, rows, result = drawn(1000, 512)
    torch.testing.assert_close(result.norm(dim=1), torch.ones(2000))
    along = (result * table[rows]).sum(dim=1)
    assert float(along.mean()) == pytest.approx((1 + 511 * 0.01) ** -0.5, rel=0.01)
    # What stands across the row, over what stands along it, is the noise but for its one part.
    across = (result / along[:, None] - table[rows]) * 10
    kept = across[across.abs() < 10].double()
    assert float(kept.mean()) == pytest.approx(0, abs=0.01)
    assert float(kept.square().mean().sqrt()) == pytest.approx(1, abs=0.03)
    cosines = F.normalize(across, dim=1) @ F.normalize(across, dim=1).T
    assert float(cosines.fill_diagonal_(0).abs().max()) < 0.4


@pytest.mark.parametrize("width", [512, 7, 1])
def test_the_numbers_are_standard_normal(width):
    """By Kolmogorov's test at 0.1 %, their moments, and no likeness of neighbours."""
    rows = 2**20 // width
    made = np.empty((rows, width), np.float32)
    buffers = augment.make_buffers(width)
    for row in range(rows):
        state = np.uint64(augment.state_of(np.uint64(12345), row, width))
        augment._normal(state, buffers)
        made[row] = buffers[-1][:width]
    numbers = torch.from_numpy(made).double()
    flat = numbers.flatten().sort().values
    below = torch.special.ndtr(flat)
    places = torch.arange(1, len(flat) + 1) / len(flat)
    assert float((below - places).abs().max()) < 1.95 / len(flat) ** 0.5
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = (numbers.flatten() ** power).std() / len(flat) ** 0.5
        assert abs(float((numbers**power).mean()) - moment) < 4 * float(spread)
    for one, other in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        if one.numel():
            assert abs(float((one * other).mean())) < 4 / one.numel() ** 0.5
            assert abs(float((one.square() * other.square()).mean()) - 1) < 12 / one.numel() ** 0.5
    assert 4.5 < float(flat[-1]) < 6.7


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_noise_is_the_same_for_any_number_of_cores(cores, monkeypatch):
    expected = drawn(100, 16)[2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert torch.equal(drawn(100, 16)[2], expected)
    assert not torch.equal(drawn(100, 16, seed=1)[2], expected)


def test_batches_move_the_generator_on():
    table, rows = unit_rows(9, 4, dtype=torch.float32), torch.arange(9)
    generator = torch.Generator().manual_seed(0)
    first, second = (noisy_rows(table, rows, variance=0.01, generator=generator) for _ in range(2))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_without_variance_are_the_tables(dtype):
    table, rows = unit_rows(9, 4, dtype=dtype), torch.tensor([3, 3, 8])
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(noisy_rows(table, rows, variance=0, generator=generator), table[rows])
