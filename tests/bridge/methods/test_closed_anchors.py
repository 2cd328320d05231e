"""Which hub items the anchored methods compare with, and what they project to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bridge.config import TrainSettings
from tests.bridge.methods.test_closed import (
    SPACES,
    centred_by_hand,
    close,
    made_by,
    rows_of,
    settings_for,
)


def drawn_anchors(items: int, settings: TrainSettings) -> Tensor:
    order = torch.randperm(items, generator=torch.Generator().manual_seed(settings.seed))
    return order[: settings.anchors].sort().values


@pytest.mark.parametrize("centring", ["none", "hub", "modality"])
@pytest.mark.parametrize("method", ["relative", "routing"])
def test_an_anchored_form_compares_with_the_hub_items(world, tmp_path, method, centring):
    settings = settings_for(method, centring=centring, seed=3)
    made, (hub, leaf) = made_by(world, tmp_path / "out", settings), rows_of(world, settings)
    chosen = drawn_anchors(80, settings)
    assert made.dimension == len(chosen) == 30
    for space, modality in (("left", "audio"), ("right", "image")):
        nothing = torch.zeros(hub[space].shape[1], dtype=torch.float64)
        hub_mean = nothing if centring == "none" else hub[space].mean(dim=0)
        leaf_mean = leaf[space].mean(dim=0) if centring == "modality" else hub_mean
        anchors = centred_by_hand(hub[space], hub_mean)[chosen]
        cosines = centred_by_hand(leaf[space], leaf_mean) @ anchors.T
        if method == "relative":
            expected = normalize(cosines, dim=-1)
        else:
            expected = torch.softmax(cosines / 0.2, dim=-1).sqrt()
        close(made.project(leaf[space].float(), space, modality), expected)


@pytest.mark.parametrize("method", ["relative", "routing"])
def test_anchors_are_drawn_by_the_seed_and_all_taken_where_there_are_fewer(world, tmp_path, method):
    anchors = {}
    for name, changes in (
        ("one", {}), ("same", {}), ("other", {"seed": 1}), ("all", {"anchors": 1000})
    ):  # fmt: skip
        settings = settings_for(method, holdout=0.0, centring="none", **changes)
        made = made_by(world, tmp_path / name, settings)
        anchors[name] = [made.projectors[space].layers[0].anchors for space in SPACES]
    for space, memory in enumerate(world.hub):
        everything = normalize(memory.tensor(), dim=-1)
        close(anchors["all"][space], everything)
        places = torch.cdist(anchors["one"][space], everything).argmin(dim=1)
        assert len(set(places.tolist())) == 30
        assert torch.equal(anchors["one"][space], anchors["same"][space])
        assert not torch.equal(anchors["one"][space], anchors["other"][space])
    lefts, rights = (
        torch.cdist(anchors["one"][s], normalize(world.hub[s].tensor(), dim=-1)).argmin(dim=1)
        for s in (0, 1)
    )
    assert torch.equal(lefts, rights)
