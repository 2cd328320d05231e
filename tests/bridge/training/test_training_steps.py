"""What happens inside an epoch: which rows, which learning rate, and which epoch is the best."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bridge.projector import Projector
from bridge.training.train import train
from tests.bridge.conftest import SETTINGS, metrics_of


def test_the_learning_rate_decays_as_half_a_cosine(world, tmp_path):
    rates: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda one, *_: rates.append(one.param_groups[0]["lr"]))
    settings = replace(SETTINGS, epochs=5, learning_rate=0.002)
    train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu")
    hook.remove()
    steps = 5 * 2  # 80 items in batches of 40
    expected = [0.001 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]
    assert rates == pytest.approx(expected)


def test_every_epoch_sees_every_item_once_in_an_order_of_its_own(world, tmp_path):
    batches: list[torch.Tensor] = []

    def record(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, Projector) and module.training and inputs[0].shape[1] == 12:
            batches.append(inputs[0])

    hook = register_module_forward_pre_hook(record)
    settings = replace(SETTINGS, epochs=2, batch=30, holdout=0.0, noise_variance=0.0)
    train(world.hub, [], tmp_path / "out", settings, device="cpu")
    hook.remove()
    assert [len(batch) for batch in batches] == 2 * [25, 25, 25, 25]
    first, second = torch.cat(batches[:4]), torch.cat(batches[4:])
    everything = world.hub[0].tensor()
    for epoch in (first, second):
        places = torch.cdist(epoch, everything).argmin(dim=1)
        assert sorted(places.tolist()) == list(range(100))
        torch.testing.assert_close(epoch, everything[places])
    assert not torch.allclose(first, second)


def test_among_equally_good_epochs_the_last_is_kept(world, tmp_path):
    settings = replace(SETTINGS, epochs=12, patience=12, holdout=0.02)  # two items: soon perfect
    kept = train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu")
    scores = [line["held_out_mrr"] for line in metrics_of(tmp_path / "out")]
    best = [epoch for epoch, score in enumerate(scores, start=1) if score == max(scores)]
    assert len(best) > 1
    assert kept.metrics["epoch"] == best[-1]
