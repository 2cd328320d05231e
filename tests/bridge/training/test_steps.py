"""What a step of every objective sees and costs, against the formulas, one pair at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bridge.config import TrainSettings
from bridge.training.steps import DistilSteps, PairedSteps, steps_for
from bridge.training.train import train
from bridge.training.training_set import FrozenRows, build_training_set
from features.errors import UserError
from features.progress import SILENT
from tests.bridge import naive
from tests.bridge.conftest import SETTINGS, unit_rows

HUB, LEFT, RIGHT, WIDTH = 11, 7, 9, 4
IDENTITY = {space: nn.Identity() for space in ("left", "right")}
CWCL = TrainSettings(
    objective="cwcl", noise_variance=0.0, inter_hub_temperature=0.3, inter_leaf_temperature=0.2,
    retrieval_temperature=0.1,
)  # fmt: skip
DISTIL = TrainSettings(
    objective="distil", noise_variance=0.0, inter_hub_temperature=0.3, distil_temperature=0.2,
    distil_batch=100,
)  # fmt: skip


def frozen_rows(*, left: int = LEFT, right: int = RIGHT, hub: int = HUB, seed: int = 0):
    return FrozenRows(
        hub={
            "left": unit_rows(hub, WIDTH, seed=seed),
            "right": unit_rows(hub, WIDTH, seed=seed + 1),
        },
        held_out={space: torch.zeros(0, WIDTH, dtype=torch.float64) for space in IDENTITY},
        leaf={
            space: unit_rows(items, WIDTH, seed=seed + which)
            for space, items, which in (("left", left, 2), ("right", right, 3))
            if items
        },
        modalities={
            "left": {"hub": "text", "leaf": "audio"},
            "right": {"hub": "text", "leaf": "image"},
        },
    )


def steps_of(settings: TrainSettings, **sizes: int) -> PairedSteps | DistilSteps:
    data = build_training_set(frozen_rows(**sizes), settings)
    return steps_for(data, settings, SILENT)


def whole(steps: PairedSteps | DistilSteps) -> dict[str, Tensor]:
    """The terms of a step that takes everything there is."""
    tables = steps.data.rows
    drawn = {
        space: {role: torch.arange(len(table)) for role, table in roles.items()}
        for space, roles in tables.items()
    }
    return steps.losses(drawn, IDENTITY, torch.Generator().manual_seed(0))  # type: ignore[arg-type]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("sharpness", [1.0, 3.0])
@pytest.mark.parametrize("space", [None, "left", "right"])
@pytest.mark.parametrize("terms", ["both", "hub", "leaf"])
def test_cwcl_weighs_the_pairs_that_the_settings_say(terms, space, sharpness, symmetric):
    settings = replace(
        CWCL, cwcl_terms=terms, cwcl_space=space, cwcl_sharpness=sharpness, cwcl_symmetric=symmetric
    )
    steps = steps_of(settings)
    found = whole(steps)
    for role, temperature in (("hub", 0.3), ("leaf", 0.2)):
        left, right = (steps.data.rows[side][role].tolist() for side in IDENTITY)
        if terms in ("both", role):
            sides = (right, left) if space == "right" else (left, right)
            expected = naive.cwcl(*sides, sides[0], temperature, sharpness, symmetric=symmetric)
        else:
            expected = naive.info_nce(left, right, temperature)
        assert found[f"inter_{role}"].item() == pytest.approx(expected, abs=1e-9)


def test_cwcl_keeps_the_distance_that_closes_the_gap():
    steps = steps_of(CWCL)
    distances = [
        math.dist(hub, leaf)
        for roles in steps.data.rows.values()
        for hub, leaf in zip(roles["hub"].tolist(), roles["leaf"].tolist(), strict=True)
    ]
    assert whole(steps)["intra"].item() == pytest.approx(sum(distances) / len(distances), abs=1e-9)


def test_cwcl_weighs_a_batch_by_its_own_rows_without_noise():
    steps = steps_of(replace(CWCL, noise_variance=0.1))
    picked = torch.tensor([4, 0, 9])
    drawn = {space: {"hub": picked, "leaf": picked} for space in IDENTITY}
    seen: dict[str, Tensor] = {}

    def watch(space: str):
        def forward(rows: Tensor) -> Tensor:
            seen[space] = rows
            return rows

        return forward

    found = steps.losses(
        drawn, {space: watch(space) for space in IDENTITY}, torch.Generator().manual_seed(0)
    )
    clean = steps.data.rows["left"]["hub"][picked]
    noisy = {space: rows[:3] for space, rows in seen.items()}
    assert not torch.allclose(noisy["left"], clean, atol=0.01)
    expected = naive.cwcl(
        noisy["left"].tolist(), noisy["right"].tolist(), clean.tolist(), 0.3, 1.0, symmetric=False
    )
    assert found["inter_hub"].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("settings", [CWCL, replace(CWCL, objective="cmcr")])
def test_without_leaves_the_hub_is_all_there_is(settings):
    assert list(whole(steps_of(settings, left=0, right=0))) == ["inter_hub"]


def test_cwcl_of_a_space_that_is_not_there_is_refused():
    with pytest.raises(UserError, match=r"cwcl_space is 'clip' but the hub joins left and right: "):
        steps_of(replace(CWCL, cwcl_space="clip"))


@pytest.mark.parametrize("sizes", [{"left": 0}, {"right": 0}, {"left": 0, "right": 0}], ids=str)
def test_cwcl_of_leaf_pairs_needs_both_leaves(sizes):
    with pytest.raises(UserError, match=r"cwcl_terms is 'leaf' but pairs .* of both spaces:"):
        steps_of(replace(CWCL, cwcl_terms="leaf"), **sizes)
    for terms in ("hub", "both"):
        found = whole(steps_of(replace(CWCL, cwcl_terms=terms), **sizes))
        assert "inter_leaf" not in found


@pytest.mark.parametrize(
    ("terms", "weights", "told"),
    [
        ("leaf", {"inter_leaf_weight": 0.0}, "inter_leaf is 0"),
        ("hub", {"inter_hub_weight": 0.0}, "inter_hub is 0"),
        (
            "both",
            {"inter_hub_weight": 0.0, "inter_leaf_weight": 0.0},
            "inter_hub and inter_leaf is 0",
        ),
    ],
)
def test_cwcl_of_terms_that_weigh_nothing_is_refused(terms, weights, told):
    with pytest.raises(UserError, match=f"cwcl_terms is '{terms}' but the weight of {told}"):
        steps_of(replace(CWCL, cwcl_terms=terms, **weights))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"smoothing": 0.0},
        {"smoothing": 0.9, "smoothing_temperature": 0.5},
        {"routing_temperature": 0.5, "distil_sharpness": 4.0},
    ],
    ids=str,
)
def test_distil_costs_the_cross_entropy_with_the_agreements(changes):
    settings = replace(DISTIL, **changes)
    steps = steps_of(settings)
    found, frozen = whole(steps), steps.data.frozen
    assert list(found) == ["inter_hub", "distil"]
    hubs = [frozen.hub[space].tolist() for space in IDENTITY]
    leaves = [frozen.leaf[space].tolist() for space in IDENTITY]
    assert found["inter_hub"].item() == pytest.approx(naive.info_nce(*hubs, 0.3), abs=1e-9)
    targets = naive.soft_targets(frozen, settings)
    expected = naive.soft_cross_entropy(*leaves, targets, 0.2)
    assert found["distil"].item() == pytest.approx(expected, abs=1e-9)


def test_distil_takes_the_targets_of_the_rows_that_were_drawn():
    steps = steps_of(DISTIL)
    drawn = {
        "left": {"hub": torch.tensor([3, 1]), "leaf": torch.tensor([6, 2, 0])},
        "right": {"hub": torch.tensor([3, 1]), "leaf": torch.tensor([8, 1])},
    }
    found = steps.losses(drawn, IDENTITY, torch.Generator())  # type: ignore[arg-type]
    all_targets = naive.soft_targets(steps.data.frozen, DISTIL)
    targets = [[all_targets[row][column] for column in (8, 1)] for row in (6, 2, 0)]
    left, right = (
        steps.data.frozen.leaf[space][drawn[space]["leaf"]].tolist() for space in IDENTITY
    )
    expected = naive.soft_cross_entropy(left, right, targets, 0.2)
    assert found["distil"].item() == pytest.approx(expected, abs=1e-9)


def test_the_beliefs_of_distil_keep_the_order_of_the_hub():
    """Also where the leaves were given in the other order."""
    frozen = frozen_rows()
    turned = replace(frozen, leaf=dict(reversed(frozen.leaf.items())))
    one, other = (
        steps_for(build_training_set(rows, DISTIL), DISTIL, SILENT) for rows in (frozen, turned)
    )
    assert list(other.beliefs) == ["left", "right"]
    assert whole(one) == whole(other)


@pytest.mark.parametrize(
    ("sizes", "missing"),
    [
        ({"left": 0}, "left"),
        ({"right": 0}, "right"),
        ({"left": 0, "right": 0}, "left and right"),
    ],
    ids=str,
)
def test_distil_needs_a_leaf_of_both_spaces(sizes, missing):
    with pytest.raises(UserError, match=f"distil needs a leaf .* both spaces and {missing} lacks"):
        steps_of(DISTIL, **sizes)


TINY = replace(SETTINGS, epochs=4)


@pytest.mark.parametrize(
    "settings",
    [
        replace(TINY, objective="cwcl"),
        replace(TINY, objective="cwcl", cwcl_space="right", cwcl_symmetric=True),
        replace(TINY, objective="distil", distil_batch=20),
        replace(TINY, objective="distil", centring="modality", projector="linear"),
    ],
    ids=["cwcl", "cwcl of the other space", "distil", "distil, centred"],
)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(world, tmp_path, settings):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        train(world.hub, world.leaf, tmp_path / name, replace(settings, seed=seed), device="cpu")
    one, same, other = (
        (tmp_path / name / "bridge.safetensors").read_bytes() for name in ("one", "same", "other")
    )
    assert one == same != other


def test_every_objective_has_weights_of_its_own(world, tmp_path):
    fingerprints = {
        objective: train(
            world.hub, world.leaf, tmp_path / objective, replace(TINY, objective=objective),
            device="cpu",
        ).fingerprint
        for objective in ("cmcr", "cwcl", "distil")
    }  # fmt: skip
    assert len(set(fingerprints.values())) == 3
