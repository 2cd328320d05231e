"""The kernels run on a GPU where there is one, and in Triton's interpreter elsewhere."""

from __future__ import annotations

import pytest
import torch

from bridge.fused_powers import gradient_, powers_
from bridge.losses import blocks, partners
from bridge.losses.info_nce import info_nce
from tests.bridge.conftest import DEVICE, unit_rows

pytest.importorskip("triton", reason="Triton is there on Linux only")
FLOOR = -70.0
ROUNDING = 2**-8 if DEVICE == "cuda" else 2**-7  # the interpreter cuts bfloat16 off


def logits_of(kind: str, b: int, n: int) -> torch.Tensor:
    made = 8 * torch.randn(b, n, generator=torch.Generator().manual_seed(b + n))
    if kind == "equal":
        made = torch.zeros(b, n)
    if kind == "one dominant":
        made[0, -1] = 60.0
    if kind == "low":
        made = made - 65  # around the floor
    return made.bfloat16()


@pytest.mark.parametrize("kind", ["random", "equal", "one dominant", "low"])
@pytest.mark.parametrize(("b", "n", "start"), [(1, 1, 0), (70, 130, 0), (64, 128, 64), (5, 300, 7)])
def test_powers_and_their_sums_are_the_formula(kind, b, n, start):
    logits = logits_of(kind, b, n)
    weights = torch.rand(n, generator=torch.Generator().manual_seed(3))
    right = logits.double().exp().masked_fill(logits.double() <= FLOOR, 0)
    for row in range(b):
        right[row, start + row] = 0 if start + row < n else right[row, start + row]
    made = logits.to(DEVICE)
    rows, columns = (one.cpu().double() for one in powers_(made, weights.to(DEVICE), start, FLOOR))
    torch.testing.assert_close(made.cpu().double(), right, rtol=ROUNDING, atol=0)
    torch.testing.assert_close(rows, right @ weights.double(), rtol=1e-5, atol=1e-35)
    torch.testing.assert_close(columns, right.sum(dim=0), rtol=1e-5, atol=1e-35)


@pytest.mark.parametrize(("b", "n"), [(1, 1), (70, 130), (64, 128)])
def test_gradients_are_the_formula(b, n):
    powers = logits_of("random", b, n).exp()
    by_row, weights, by_column = (
        torch.rand(size, generator=torch.Generator().manual_seed(seed)) * lift
        for seed, (size, lift) in enumerate(((b, 2.0**48), (n, 1), (n, 2.0**48)))
    )
    wide = (one.double() for one in (powers, by_row, weights, by_column))
    power, row, weight, column = wide
    right = power * (row[:, None] * weight + column)
    made = powers.to(DEVICE)
    gradient_(made, *(one.to(DEVICE) for one in (by_row, weights, by_column)))
    torch.testing.assert_close(made.cpu().double(), right, rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("most", [10**6, 3000])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_info_nce_by_kernels_is_info_nce(temperature, most, monkeypatch):
    """In one block, and in several."""
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    left, right = unit_rows(150, 16, seed=1), unit_rows(150, 16, seed=2)
    right = torch.nn.functional.normalize(left + right, dim=1)
    found = []
    for kernels in (True, False):
        monkeypatch.setattr(partners, "fits_kernels", lambda _, kernels=kernels: kernels)
        sides = [one.float().to(DEVICE).requires_grad_() for one in (left, right)]
        cost = info_nce(*sides, temperature=temperature, bf16=True)
        cost.backward()
        found.append([cost.detach(), *(side.grad for side in sides)])
    for with_kernels, without in zip(*found, strict=True):
        scale = float(without.abs().max())
        torch.testing.assert_close(with_kernels, without, rtol=0, atol=1e-2 * scale)
    sides = [one.requires_grad_() for one in (left, right)]
    exact = info_nce(*sides, temperature=temperature)
    exact.backward()
    assert float(found[0][0]) == pytest.approx(float(exact), rel=0.01)
    for ours, side in zip(found[0][1:], sides, strict=True):
        gap = (ours.cpu().double() - side.grad).norm() / side.grad.norm()
        assert float(gap) < 0.02
