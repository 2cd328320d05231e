"""What all losses that are computed in blocks of rows have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from bridge.losses import blocks
from bridge.losses.cwcl import cwcl
from bridge.losses.info_nce import info_nce
from bridge.losses.soft_targets import soft_cross_entropy
from tests.bridge.conftest import unit_rows

N, D = 23, 6
TEMPERATURE = 0.05
Loss = Callable[[Tensor, Tensor], Tensor]


def soft_targets() -> Tensor:
    """Of every pair, with a row and a column that nothing belongs to."""
    targets = torch.rand(N, N, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    targets[5] = targets[:, 9] = 0
    return targets


LOSSES: dict[str, Loss] = {
    "info_nce": lambda a, b: info_nce(a, b, temperature=TEMPERATURE),
    "cwcl": lambda a, b: cwcl(
        a, b, unit_rows(len(a), 4, seed=3), temperature=TEMPERATURE, sharpness=2.5
    ),
    "cwcl, symmetric": lambda a, b: cwcl(
        a, b, unit_rows(len(a), 4, seed=3), temperature=TEMPERATURE, symmetric=True
    ),
    "soft targets": lambda a, b: soft_cross_entropy(
        a, b, soft_targets()[: len(a), : len(b)], temperature=TEMPERATURE
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def sides(n: int = N, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    left, right = (unit_rows(n, D, seed=seed).to(dtype).requires_grad_() for seed in (1, 2))
    return left, right


def value_and_gradients(loss: Loss, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    left, right = sides(dtype=dtype)
    value = loss(left, right)
    value.backward()
    return value.detach(), left.grad, right.grad


@contextmanager
def largest_saved() -> Iterator[list[int]]:
    """The most elements in the storage of one tensor that is kept for the backward pass."""
    largest = [0]

    def note(tensor: Tensor) -> Tensor:
        largest[0] = max(largest[0], tensor.untyped_storage().nbytes() // tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield largest


@every_loss
@pytest.mark.parametrize("rows", [1, 4, 22])
def test_blocks_equal_the_whole(loss, rows, monkeypatch):
    whole = value_and_gradients(loss)
    monkeypatch.setattr(blocks, "MAX_LOGITS", rows * N)
    for ours, expected in zip(value_and_gradients(loss), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


@every_loss
def test_a_block_of_one_row_is_the_least(loss, monkeypatch):
    whole = loss(*sides())
    monkeypatch.setattr(blocks, "MAX_LOGITS", 1)
    torch.testing.assert_close(loss(*sides()), whole, rtol=0, atol=1e-9)


@every_loss
@pytest.mark.parametrize("most", [4, 100])
def test_the_gradient_is_that_of_the_value(loss, most, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    assert torch.autograd.gradcheck(loss, sides(5))


@every_loss
def test_the_logits_of_blocks_are_not_kept_for_the_backward_pass(loss, monkeypatch):
    with largest_saved() as whole:
        loss(*sides())
    monkeypatch.setattr(blocks, "MAX_LOGITS", 10 * N)
    with largest_saved() as in_blocks:
        loss(*sides())
    # InfoNCE keeps its gradients and never its logits.
    assert whole[0] == (N * D if loss is LOSSES["info_nce"] else N * N)
    assert in_blocks[0] <= N * D


@pytest.mark.parametrize("loss", [one for name, one in LOSSES.items() if name != "info_nce"])
def test_the_outputs_of_a_block_do_not_hold_its_logits(loss, monkeypatch):
    kept = []

    def noted(function, *arguments, **_options):
        kept.append(function(*arguments))
        return kept[-1]

    monkeypatch.setattr(blocks, "checkpoint", noted)
    monkeypatch.setattr(blocks, "MAX_LOGITS", 10 * N)
    loss(*sides())
    sizes = [t.untyped_storage().nbytes() // t.element_size() for b in kept for s in b for t in s]
    assert len(kept) == 3
    assert max(sizes) <= N


@every_loss
@pytest.mark.parametrize("most", [4 * N, N * N])
def test_float32_is_kept_exact_to_its_rounding_and_repeatable(loss, most, monkeypatch):
    exact = value_and_gradients(loss)
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    once, again = (value_and_gradients(loss, torch.float32) for _ in range(2))
    for ours, same, expected in zip(once, again, exact, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, same)
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=2e-5)


@every_loss
def test_blocks_need_no_gradient(loss, monkeypatch):
    whole = loss(*sides())
    monkeypatch.setattr(blocks, "MAX_LOGITS", 4 * N)
    with torch.no_grad():
        torch.testing.assert_close(loss(*sides()), whole.detach(), rtol=0, atol=1e-9)
