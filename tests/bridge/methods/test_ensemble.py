"""Ensembles of projectors: several seeds, their similarities averaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge.artefact import load
from bridge.config import TrainSettings
from bridge.methods.mixture import candidates
from bridge.training.train import train
from features.errors import UserError

FEW = TrainSettings(dimension=8, hidden=16, epochs=2, holdout=0.0)


def rows_of(world: Any, made: Any) -> tuple[torch.Tensor, torch.Tensor]:
    left, right = world.test
    return (
        made.project(left.tensor(), left.space, left.modality),
        made.project(right.tensor(), right.space, right.modality),
    )


def test_similarities_are_the_mean_of_those_of_each_seed(world: Any, tmp_path: Path) -> None:
    three = replace(FEW, ensemble=3, seed=4)
    made = train(world.hub, world.leaf, tmp_path / "three", three, device="cpu")
    assert (made.dimension, load(tmp_path / "three").fingerprint) == (24, made.fingerprint)
    left, right = rows_of(world, made)
    alone = []
    for seed in (4, 5, 6):
        one = replace(FEW, seed=seed)
        ours = rows_of(world, train(world.hub, world.leaf, tmp_path / f"{seed}", one, device="cpu"))
        alone.append(ours[0] @ ours[1].T)
    torch.testing.assert_close(left @ right.T, torch.stack(alone).mean(dim=0), atol=1e-5, rtol=0)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


def test_closed_forms_and_mixtures_have_none() -> None:
    for method in ("cca", "mixture"):
        with pytest.raises(UserError, match="ensemble is 2 but belongs to cmcr and cwcl"):
            TrainSettings(method=method, ensemble=2)


def test_each_data_centre_has_projectors_of_its_own(world: Any, tmp_path: Path) -> None:
    each = replace(FEW, pseudo_pairs="each", ensemble=2)
    made = train(world.hub, world.leaf, tmp_path / "each", each, device="cpu")
    assert made.dimension == 32
    left, right = rows_of(world, made)
    alone = []
    for centre in ("hub", "leaf"):
        for seed in (0, 1):
            one = replace(FEW, pseudo_pairs=centre, seed=seed)
            out = tmp_path / f"{centre}-{seed}"
            ours = rows_of(world, train(world.hub, world.leaf, out, one, device="cpu"))
            alone.append(ours[0] @ ours[1].T)
    torch.testing.assert_close(left @ right.T, torch.stack(alone).mean(dim=0), atol=1e-5, rtol=0)
    assert not torch.allclose(alone[0], alone[2], atol=1e-3)


def test_a_mixture_weighs_each_data_centre() -> None:
    mixed = TrainSettings(method="mixture", pseudo_pairs="each")
    tried = candidates(mixed, 100)
    centres = {name: one.pseudo_pairs for name, one in tried.items() if one.kind == "cmcr"}
    assert centres == {
        "linear": "hub", "linear leaf-centred": "leaf", "mlp2": "hub", "mlp2 leaf-centred": "leaf"
    }  # fmt: skip


def test_data_centres_need_a_leaf_before_anything_is_trained(world: Any, tmp_path: Path) -> None:
    each = replace(FEW, pseudo_pairs="each")
    with pytest.raises(UserError, match="pseudo_pairs is 'each' but no leaf memory is given"):
        train(world.hub, [], tmp_path / "each", each, device="cpu")
    assert not (tmp_path / "each").exists()
