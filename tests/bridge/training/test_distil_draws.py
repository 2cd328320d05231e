"""Which rows routed distillation draws, and how it tells that it routes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bridge.config import TrainSettings
from bridge.training.steps import DistilSteps, steps_for
from bridge.training.training_set import TrainingSet
from tests.bridge.training.test_steps import (
    DISTIL,
    HUB,
    IDENTITY,
    LEFT,
    RIGHT,
    frozen_rows,
    steps_of,
)

Epoch = list[Mapping[str, Mapping[str, Tensor]]]


def epoch_of(steps: DistilSteps, parts: int, seed: int = 0) -> Epoch:
    return list(steps.draw(torch.Generator().manual_seed(seed), parts))


def rows_of(epoch: Epoch, space: str, role: str) -> list[int]:
    return torch.cat([drawn[space][role] for drawn in epoch]).tolist()


def come_around(epoch: Epoch, space: str, role: str, *, items: int, size: int) -> None:
    """Batches are of `size` items, and none comes twice before a new round begins.

    A round has as many whole batches as the items make.
    """
    batches = [drawn[space][role].tolist() for drawn in epoch]
    assert {len(batch) for batch in batches} == {size}
    a_round = items // size
    for start in range(0, len(batches), a_round):
        rows = [row for batch in batches[start : start + a_round] for row in batch]
        assert len(rows) == len(set(rows))
        assert set(rows) <= set(range(items))


@pytest.mark.parametrize(("items", "batch"), [(12, 12), (12, 4), (12, 2), (15, 5), (12, 100)])
def test_an_epoch_of_distil_passes_every_leaf_item_once(items, batch):
    steps = steps_of(replace(DISTIL, distil_batch=batch), left=items, right=items)
    epoch = epoch_of(steps, -(-items // batch))
    for space in IDENTITY:
        assert sorted(rows_of(epoch, space, "leaf")) == list(range(items))


@pytest.mark.parametrize(
    ("items", "batch", "parts"), [(11, 10, 2), (13, 4, 4), (5, 2, 2), (23, 3, 20)]
)
def test_the_rest_of_a_round_is_left_out_of_it(items, batch, parts):
    """A batch of the rest alone would be small, and an easy one."""
    steps = steps_of(replace(DISTIL, distil_batch=batch), left=items, right=items)
    come_around(epoch_of(steps, parts), "left", "leaf", items=items, size=batch)


def test_what_a_round_leaves_out_is_drawn_by_chance():
    steps = steps_of(replace(DISTIL, distil_batch=10), left=11, right=11)
    left_out = {
        (set(range(11)) - set(rows_of(epoch_of(steps, 1, seed), "left", "leaf"))).pop()
        for seed in range(40)
    }
    assert len(left_out) > 5


@pytest.mark.parametrize(
    ("batch", "right", "size"), [(3, 2, 2), (3, 3, 3), (3, 5, 3), (3, 15, 3), (24, 5, 5)]
)
def test_items_of_a_smaller_leaf_come_around_again(batch, right, size):
    steps = steps_of(replace(DISTIL, distil_batch=batch), left=24, right=right)
    epoch = epoch_of(steps, 24 // batch)
    assert sorted(rows_of(epoch, "left", "leaf")) == list(range(24))
    come_around(epoch, "right", "leaf", items=right, size=size)


def test_distil_takes_the_same_hub_items_in_both_spaces():
    for parts in (1, 3, 8):
        for drawn in epoch_of(steps_of(DISTIL, left=24, right=24), parts):
            assert torch.equal(drawn["left"]["hub"], drawn["right"]["hub"])


@pytest.mark.parametrize(
    ("batch", "parts", "size"), [(None, 3, HUB), (4, 2, 4), (4, 7, 4), (100, 2, HUB)]
)
def test_hub_batches_of_distil_are_as_large_as_those_of_cmcr(batch, parts, size):
    """However short the epoch: they are each other's negatives."""
    assert TrainSettings(objective="cmcr", batch=batch).batch_for(HUB) == size
    epoch = epoch_of(steps_of(replace(DISTIL, batch=batch), left=24, right=24), parts)
    come_around(epoch, "left", "hub", items=HUB, size=size)


def test_the_leaves_of_distil_are_drawn_independently_and_by_the_seed():
    steps = steps_of(DISTIL, left=24, right=24)
    one, same, other = (epoch_of(steps, 3, seed) for seed in (0, 0, 1))
    for role in ("hub", "leaf"):
        assert rows_of(one, "left", role) == rows_of(same, "left", role)
        assert rows_of(one, "left", role) != rows_of(other, "left", role)
    assert rows_of(one, "left", "leaf") != rows_of(one, "right", "leaf")


@pytest.mark.parametrize(
    ("batch", "sizes", "expected"),
    [(100, {}, 9), (4, {}, 4), (4, {"left": 30}, 4), (100, {"left": 30}, 30)],
)
def test_a_step_of_distil_is_as_large_as_set_but_not_larger_than_the_leaves(batch, sizes, expected):
    steps = steps_of(replace(DISTIL, distil_batch=batch), **sizes)
    assert (steps.batch, steps.items) == (expected, max(sizes.get("left", LEFT), RIGHT))


class Tasks:
    """A progress that keeps what was done of what."""

    def __init__(self) -> None:
        self.done: dict[str, tuple[int, int]] = {}

    @contextmanager
    def task(self, description: str, total: int, *, unit: str = "items", done: int = 0):  # noqa: ARG002
        self.done[description] = (0, total)

        def advance(count: int) -> None:
            before, total = self.done[description]
            self.done[description] = (before + count, total)

        yield advance


def test_routing_tells_how_far_it_is():
    tasks = Tasks()
    steps_for(TrainingSet({}, frozen_rows()), DISTIL, tasks)
    assert tasks.done == {
        "route left over the hub": (3 * LEFT, 3 * LEFT),
        "route right over the hub": (3 * RIGHT, 3 * RIGHT),
    }
