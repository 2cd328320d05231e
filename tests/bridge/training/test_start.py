"""Projectors that start from a closed form: they compute it, and training goes on from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge.config import STARTS, TrainSettings
from bridge.methods.closed import solve
from bridge.training.run import Run
from bridge.training.train import train
from bridge.training.training_set import build_training_set, check_memories, load_rows
from features.errors import UserError
from tests.bridge.conftest import SETTINGS

CPU = torch.device("cpu")
CLOSED = [start for start in STARTS if start != "random"]


def started(world: Any, settings: TrainSettings) -> tuple[Run, Tensor, Tensor]:
    """A run before its first step, and cosines of all hub items by it and by the closed form."""
    frozen = load_rows(
        check_memories(world.hub, world.leaf), holdout=0.0, seed=settings.seed, device=CPU
    )
    run = Run(None, settings, build_training_set(frozen, settings), {}, CPU)
    closed = TrainSettings(
        method=settings.start, dimension=settings.dimension, centring=settings.means
    )

    def cosines(projectors: Any) -> Tensor:
        left, right = (
            projector.eval().project(frozen.hub[space], "text")
            for space, projector in projectors.items()
        )
        return left @ right.T

    return run, cosines(run.projectors), cosines(solve(frozen, closed))


@pytest.mark.parametrize("start", CLOSED)
@pytest.mark.parametrize("projector", ["linear", "mlp2"])
@pytest.mark.parametrize("centring", ["none", "modality"])
@pytest.mark.parametrize("dimension", [4, 16])
def test_projectors_begin_as_the_closed_form(world, start, projector, centring, dimension):
    settings = replace(
        SETTINGS, start=start, projector=projector, centring=centring, dimension=dimension
    )
    run, ours, theirs = started(world, settings)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for one in run.projectors.values():
        assert all(weight.requires_grad for weight in one.parameters())


def test_a_start_is_worth_steps(world, tmp_path: Path):
    few = replace(SETTINGS, epochs=1, batch=160)
    scores = {
        start: train(
            world.hub, world.leaf, tmp_path / start, replace(few, start=start), device="cpu"
        ).metrics["inter_hub"]
        for start in ("random", "cca")
    }
    assert scores["cca"] < 0.8 * scores["random"]


def test_shapes_that_cannot_compute_a_closed_form_are_refused():
    with pytest.raises(UserError, match="start is 'cca' but the projector mlp1 gives no negative"):
        TrainSettings(start="cca", projector="mlp1")
    with pytest.raises(UserError, match="hidden is 512 and dimension 512"):
        TrainSettings(start="ridge", hidden=512)
    TrainSettings(start="ridge", hidden=512, projector="linear")
