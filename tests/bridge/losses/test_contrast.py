from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bridge.losses import blocks
from bridge.losses.contrast import (
    Keys,
    _equal,
    cross_modal,
    intra_modal,
    local_information,
    momentum_contrast,
    part_information,
)
from tests.bridge import naive, naive_tcl
from tests.bridge.conftest import unit_rows

N, QUEUE, PARTS, WIDTH = 6, 9, 4, 5
EVERY_SIZE = pytest.mark.parametrize("most", [10**6, 20], ids=["at once", "in blocks"])


def keys(seed: int, *, queue: int = QUEUE) -> Keys:
    items = torch.tensor([3, 7, 1, 0, 12, 5])
    earlier = torch.tensor([8, 7, 9, 2, 5, 5, 20, 21, 3])[:queue]  # some of them are in the batch
    return Keys(
        unit_rows(N, WIDTH, seed=seed), items, unit_rows(queue, WIDTH, seed=seed + 1), earlier
    )


def listed(one: Keys) -> tuple[list, list, list, list]:
    return one.rows.tolist(), one.items.tolist(), one.queue.tolist(), one.queue_items.tolist()


def mask(seed: int = 0) -> torch.Tensor:
    drawn = torch.rand(N, PARTS, generator=torch.Generator().manual_seed(seed)) > 0.4
    drawn[0], drawn[1] = True, False
    return drawn


@EVERY_SIZE
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("queue", [0, QUEUE])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_contrast_is_the_formula(monkeypatch, most, alpha, queue, temperature):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    view, teacher, known = (
        unit_rows(N, WIDTH, seed=1),
        unit_rows(N, WIDTH, seed=2),
        keys(3, queue=queue),
    )
    found = momentum_contrast(view, known, temperature=temperature, teacher=teacher, alpha=alpha)
    expected = naive_tcl.contrast(
        view.tolist(), *listed(known), temperature, teacher.tolist(), alpha
    )
    assert found.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "q"), [(7, 11), (1, 5), (7, 0)])
def test_where_items_are_equal_is_what_a_table_says(n, q):
    noise = torch.Generator().manual_seed(0)
    for _ in range(20):
        left, right = (torch.randint(5, (size,), generator=noise) for size in (n, q))
        rows, columns = _equal(left, right)
        found = sorted(zip(rows.tolist(), columns.tolist(), strict=True))
        assert found == [
            (i, j)
            for i, one in enumerate(left.tolist())
            for j, other in enumerate(right.tolist())
            if one == other
        ]


class Largest(TorchDispatchMode):
    """How many elements the largest tensor has that is made meanwhile."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        made = function(*arguments, **(named or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor):
                self.count = max(self.count, one.numel())
        return made


def test_no_table_of_all_rows_and_keys_is_made(monkeypatch):
    n, queue, most = 50, 200, 1_000
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    view = unit_rows(n, 2).requires_grad_()
    known = Keys(
        unit_rows(n, 2, seed=1), torch.arange(n), unit_rows(queue, 2, seed=2),
        torch.arange(queue) + n // 2,
    )  # fmt: skip
    with Largest() as largest:
        momentum_contrast(view, known, temperature=0.1, teacher=known.rows, alpha=0.4).backward()
    assert most / 2 < largest.count <= most


def test_cma_is_the_mean_of_both_ways_and_imc_of_the_modalities():
    left, right, left_keys, right_keys = (
        unit_rows(N, WIDTH),
        unit_rows(N, WIDTH, seed=1),
        keys(2),
        keys(4),
    )
    found = cross_modal(left, right, left_keys, right_keys, temperature=0.1, alpha=0.4)
    there = naive_tcl.contrast(
        left.tolist(), *listed(right_keys), 0.1, left_keys.rows.tolist(), 0.4
    )
    back = naive_tcl.contrast(
        right.tolist(), *listed(left_keys), 0.1, right_keys.rows.tolist(), 0.4
    )
    assert found.item() == pytest.approx((there + back) / 2, abs=1e-9)
    found = intra_modal([left, right], [left_keys, right_keys], temperature=0.1)
    each = [
        naive_tcl.contrast(one.tolist(), *listed(own), 0.1)
        for one, own in ((left, left_keys), (right, right_keys))
    ]
    assert found.item() == pytest.approx(sum(each) / 2, abs=1e-9)


def test_without_a_queue_and_soft_targets_cma_is_info_nce():
    left, right = unit_rows(N, WIDTH), unit_rows(N, WIDTH, seed=1)
    items, nothing = torch.arange(N), torch.arange(0)
    sides = [Keys(rows, items, rows[:0], nothing) for rows in (left, right)]
    found = cross_modal(left, right, *sides, temperature=0.2, alpha=0.0)
    assert found.item() == pytest.approx(
        naive.info_nce(left.tolist(), right.tolist(), 0.2), abs=1e-9
    )


def test_an_item_is_not_told_from_its_own_older_row():
    view = unit_rows(1, WIDTH)
    known = Keys(view, torch.tensor([4]), view.repeat(3, 1), torch.tensor([4, 4, 4]))
    assert momentum_contrast(view, known, temperature=0.01).item() == pytest.approx(0.0, abs=1e-12)


@EVERY_SIZE
def test_local_information_is_the_formula(monkeypatch, most):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    view, parts = unit_rows(N, WIDTH), unit_rows(N, PARTS, WIDTH, seed=1)
    parts = parts * mask().unsqueeze(-1)
    found = local_information(view, parts, mask(), temperature=0.3)
    expected = naive_tcl.local_information(view.tolist(), parts.tolist(), mask().tolist(), 0.3)
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_local_information_of_parts_that_are_alike_counts_them():
    view, parts = unit_rows(1, WIDTH).repeat(3, 1), unit_rows(1, WIDTH).repeat(3, 2, 1)
    there = torch.tensor([[True, True], [True, False], [True, True]])
    found = local_information(view, parts, there, temperature=0.5)
    expected = (math.log(1 + 3) + math.log(1 + 4) + math.log(1 + 3)) / 3
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_local_information_does_not_depend_on_the_order_of_parts_or_on_padding():
    view, parts, there = unit_rows(N, WIDTH), unit_rows(N, PARTS, WIDTH, seed=1), mask()
    first = local_information(view, parts, there, temperature=0.3)
    turned = local_information(view, parts.flip(1), there.flip(1), temperature=0.3)
    padded = parts.where(there.unsqueeze(-1), 7.0)
    torch.testing.assert_close(turned, first)
    torch.testing.assert_close(local_information(view, padded, there, temperature=0.3), first)


def test_items_without_parts_cost_nothing_and_have_finite_gradients():
    view = unit_rows(2, WIDTH).requires_grad_()
    there = torch.tensor([[True], [False]])
    cost = local_information(view, unit_rows(2, 1, WIDTH, seed=1), there, temperature=0.1)
    cost.backward()
    assert cost.item() == pytest.approx(0.0, abs=1e-12)
    assert view.grad.isfinite().all()


@EVERY_SIZE
def test_part_information_is_the_formula(monkeypatch, most):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    items, parts = unit_rows(N, WIDTH), unit_rows(N, PARTS, WIDTH, seed=1)
    parts = parts * mask().unsqueeze(-1)
    found = part_information(parts, mask(), items, temperature=0.3)
    expected = naive_tcl.part_information(parts.tolist(), mask().tolist(), items.tolist(), 0.3)
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_one_part_of_each_item_is_info_nce_of_one_direction():
    items, parts = unit_rows(N, WIDTH), unit_rows(N, WIDTH, seed=1)
    there = torch.ones(N, 1, dtype=torch.bool)
    ways = [
        part_information(left[:, None], there, right, temperature=0.2).item()
        for left, right in ((parts, items), (items, parts))
    ]
    expected = naive.info_nce(parts.tolist(), items.tolist(), 0.2)
    assert sum(ways) / 2 == pytest.approx(expected, abs=1e-9)


def test_parts_that_are_not_there_have_no_say_in_part_information():
    items, parts, there = unit_rows(N, WIDTH), unit_rows(N, PARTS, WIDTH, seed=1), mask()
    parts.requires_grad_()
    first = part_information(parts, there, items, temperature=0.3)
    first.backward()
    assert torch.equal(parts.grad.abs().sum(dim=-1) > 0, there)
    padded = parts.detach().where(there.unsqueeze(-1), 7.0)
    torch.testing.assert_close(part_information(padded, there, items, temperature=0.3), first)
    nothing = part_information(parts, torch.zeros_like(there), items, temperature=0.3)
    assert nothing.item() == 0


@EVERY_SIZE
def test_gradients(monkeypatch, most):
    monkeypatch.setattr(blocks, "MAX_LOGITS", most)
    view, teacher, known = unit_rows(N, WIDTH), unit_rows(N, WIDTH, seed=2), keys(3)
    parts = unit_rows(N, PARTS, WIDTH, seed=5)
    temperature = torch.tensor(0.5, dtype=torch.float64)

    def contrast(rows, t):
        return momentum_contrast(rows, known, temperature=t, teacher=teacher, alpha=0.0)

    def local(rows, t):
        return local_information(rows, parts, mask(), temperature=t)

    def of_parts(rows, t):
        return part_information(rows, mask(), teacher, temperature=t)

    inputs = view.requires_grad_(), temperature.requires_grad_()
    assert torch.autograd.gradcheck(contrast, inputs)
    assert torch.autograd.gradcheck(local, inputs)
    assert torch.autograd.gradcheck(of_parts, (parts.requires_grad_(), temperature))


def test_no_gradient_flows_into_keys_teachers_and_parts():
    given = [unit_rows(N, WIDTH, seed=seed).requires_grad_() for seed in range(4)]
    view, rows, queue, teacher = given
    known = Keys(rows, torch.arange(N), queue, torch.arange(N) + 50)
    parts = unit_rows(N, PARTS, WIDTH).requires_grad_()
    cost = momentum_contrast(view, known, temperature=0.1, teacher=teacher, alpha=0.4)
    (cost + local_information(view, parts, mask(), temperature=0.1)).backward()
    assert view.grad is not None
    assert [one.grad for one in (rows, queue, teacher, parts)] == [None] * 4
    part_information(parts, mask(), rows, temperature=0.1).backward()
    assert parts.grad is not None
    assert rows.grad is None
