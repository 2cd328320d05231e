"""InfoNCE's own gradient, on inputs that strain the range of floats."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bridge.losses import blocks, partners
from bridge.losses.partners import partners_cross_entropy
from tests.bridge.conftest import unit_rows

N, D = 24, 8


def cross_entropies(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    logits, partner = left @ right.T / temperature, torch.arange(len(left))
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


def found(loss: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor) -> list[Tensor]:
    sides = [side.clone().requires_grad_() for side in (left, right)]
    value = loss(*sides)
    return [value.detach(), *torch.autograd.grad(value, sides)]


def random_rows() -> tuple[Tensor, Tensor]:
    return unit_rows(N, D, seed=1), unit_rows(N, D, seed=2)


def one_against_all() -> tuple[Tensor, Tensor]:
    """A right row that every left one resembles most, and a pair of opposites."""
    left = F.normalize(unit_rows(N, D, seed=1) + 5 * unit_rows(1, D, seed=7), dim=1)
    right = unit_rows(N, D, seed=2).clone()
    right[3] = unit_rows(1, D, seed=7)[0]
    right[5] = -left[5]
    return left, right


def some_far_better_matched() -> tuple[Tensor, Tensor]:
    """Half of the rows equal their partners, and half have nothing near them at all."""
    left = torch.eye(N, dtype=torch.float64)
    right = left.clone()
    right[N // 2 :] = -F.normalize(left.sum(0), dim=0)
    return left, right


INPUTS = {
    "random": random_rows(),
    "equal sides": (unit_rows(N, D, seed=1), unit_rows(N, D, seed=1)),
    "opposite sides": (unit_rows(N, D, seed=1), -unit_rows(N, D, seed=1)),
    "all equal": (unit_rows(1, D).expand(N, D), unit_rows(1, D).expand(N, D)),
    "duplicates": tuple(side[torch.arange(N) // 3] for side in random_rows()),
    "one against all": one_against_all(),
    "some far better matched": some_far_better_matched(),
    "a single pair": (unit_rows(1, D, seed=1), unit_rows(1, D, seed=2)),
}
every_input = pytest.mark.parametrize("sides", INPUTS.values(), ids=INPUTS.keys())


@every_input
@pytest.mark.parametrize("temperature", [0.002, 0.01, 0.07, 1.0, 1000.0])
@pytest.mark.parametrize("most", [1, 5 * N, N * N])
def test_value_and_gradients_are_torchs_in_float64(sides, temperature, most, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    expected = found(lambda a, b: cross_entropies(a, b, temperature), *sides)
    ours = found(lambda a, b: partners_cross_entropy(a, b, temperature=temperature), *sides)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@every_input
@pytest.mark.parametrize("temperature", [0.002, 0.01, 0.07, 1.0, 1000.0])
def test_float32_is_as_exact_as_its_logits(sides, temperature):
    expected = found(lambda a, b: cross_entropies(a, b, temperature), *sides)
    ours = found(
        lambda a, b: partners_cross_entropy(a, b, temperature=temperature),
        *(side.float() for side in sides),
    )
    logit = 1e-6 / temperature  # rounding of the largest
    torch.testing.assert_close(ours[0].double(), expected[0], rtol=1e-6, atol=logit)
    for one, other in zip(ours[1:], expected[1:], strict=True):
        assert float((one - other).abs().max()) <= 1e-7 + logit * (4 / temperature / N)


@every_input
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_bf16_stays_close_and_gives_float32(sides, temperature):
    exact = found(lambda a, b: cross_entropies(a, b, temperature), *sides)
    rough = found(
        lambda a, b: partners_cross_entropy(a, b, temperature=temperature, bf16=True),
        *(side.float() for side in sides),
    )
    assert all(one.dtype == torch.float32 for one in rough)
    assert float((rough[0] - exact[0]).abs()) < 0.02 + 0.01 * float(exact[0])
    for one, other in zip(rough[1:], exact[1:], strict=True):
        assert float((one - other).norm()) < 0.1 * float(other.norm()) + 0.01 / temperature / N**0.5


def test_what_leaves_the_range_of_floats_is_done_with_care(monkeypatch):
    careful = []
    monkeypatch.setattr(partners, "_careful", lambda *given: careful.append(1) or _CAREFUL(*given))
    left, right = (side.float() for side in some_far_better_matched())
    expected = found(lambda a, b: cross_entropies(a, b, 0.01), left.double(), right.double())
    ours = found(lambda a, b: partners_cross_entropy(a, b, temperature=0.01), left, right)
    assert careful
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)
    careful.clear()
    found(lambda a, b: partners_cross_entropy(a, b, temperature=0.05), left, right)
    assert not careful


_CAREFUL = partners._careful


@pytest.mark.parametrize("chunk", [1, 3 * N, 10**6])
@pytest.mark.parametrize("bf16", [False, True])
def test_passes_in_parts_that_fit_the_cache_change_nothing(chunk, bf16, monkeypatch):
    sides = tuple(side.float() for side in random_rows())

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return partners_cross_entropy(a, b, temperature=0.05, bf16=bf16)

    whole = found(loss, *sides)
    monkeypatch.setattr(partners, "_CACHED", chunk)
    for one, other in zip(found(loss, *sides), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_only_the_side_that_needs_a_gradient_may_have_one():
    left, right = random_rows()
    partners_cross_entropy(left.requires_grad_(), right, temperature=0.1).backward()
    expected = found(lambda a, b: cross_entropies(a, b, 0.1), left.detach(), right)
    torch.testing.assert_close(left.grad, expected[1], rtol=0, atol=1e-9)
    assert right.grad is None


def test_the_gradient_of_the_value_is_that_of_its_multiples():
    left, right = (side.requires_grad_() for side in random_rows())
    assert torch.autograd.gradcheck(
        lambda a, b: 3 * partners_cross_entropy(a, b, temperature=0.2), (left, right)
    )
