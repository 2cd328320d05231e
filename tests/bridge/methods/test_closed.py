"""Closed forms, from memories to a bridge: means and matrices as the formulas have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bridge.artefact import Bridge, load
from bridge.config import CLOSED_FORMS, TrainSettings
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.methods import closed_forms
from bridge.training.train import train
from bridge.training.training_set import check_memories, load_rows
from features.errors import UserError
from tests.bridge.conftest import World, write_items

METHODS = {
    "procrustes": {"dimension": 6},
    "ridge": {"dimension": 6, "penalty": 0.3},
    "cca": {"dimension": 6, "penalty": 0.3, "correlation_power": 0.7},
    "relative": {"anchors": 30},
    "routing": {"anchors": 30, "routing_temperature": 0.2},
}
SPACES = ("left", "right")
every_method = pytest.mark.parametrize("method", METHODS)
Rows = dict[str, Tensor]


def settings_for(method: str, **changes: object) -> TrainSettings:
    chosen = {"holdout": 0.2, **METHODS[method], **changes}
    return TrainSettings(method=method, **chosen)  # type: ignore[arg-type]


def made_by(world: World, out, settings: TrainSettings, *, leaf=None) -> Bridge:
    leaf = world.leaf if leaf is None else leaf
    return train(world.hub, leaf, out, settings, device="cpu")


def rows_of(world: World, settings: TrainSettings) -> tuple[Rows, Rows]:
    """Hub rows that are not held out, and leaf rows, in float64."""
    frozen = load_rows(
        check_memories(world.hub, world.leaf),
        holdout=settings.holdout,
        seed=settings.seed,
        device=torch.device("cpu"),
    )
    return (
        {space: rows.double() for space, rows in frozen.hub.items()},
        {space: rows.double() for space, rows in frozen.leaf.items()},
    )


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=atol)


def test_every_closed_form_is_tested():
    assert set(METHODS) == set(CLOSED_FORMS)


@every_method
def test_it_comes_back_the_same(world, tmp_path, method):
    settings = settings_for(method)
    made = made_by(world, tmp_path / "out", settings)
    back = load(tmp_path / "out", device="cpu")
    assert back.about() == made.about()
    assert back.settings == settings
    for memory, space in zip((*world.hub, *world.leaf), 2 * SPACES, strict=True):
        projected = made.project(memory.tensor(), space, memory.modality)
        assert torch.equal(back.project(memory.tensor(), space, memory.modality), projected)
        assert projected.shape == (len(memory), made.dimension)
        close(projected.norm(dim=1), torch.ones(len(memory)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "bridge.json", "bridge.safetensors", "run.json", "settings.toml"
    ]  # fmt: skip


@every_method
def test_it_is_the_same_bytes_every_time(world, tmp_path, method):
    for name in ("one", "same"):
        made_by(world, tmp_path / name, settings_for(method))
    one, same = ((tmp_path / name / "bridge.safetensors").read_bytes() for name in ("one", "same"))
    assert one == same


@every_method
def test_modalities_that_never_met_find_each_other(world, tmp_path, method):
    figures = evaluate_retrieval(made_by(world, tmp_path / "o", settings_for(method)), *world.test)
    assert figures.forward.recall[1] > 3 * figures.chance
    assert figures.backward.recall[1] > 3 * figures.chance


def expected_maps(method: str, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The formulas, with penalties that are shares of one item, in matrices written out."""
    n, (d1, d2) = len(left), (left.shape[1], right.shape[1])
    cross = left.T @ right
    if method == "procrustes":
        u, _, vt = torch.linalg.svd(cross, full_matrices=False)
        return u[:, :6], vt[:6].T
    # An item's share of the second moments is 1 / n of their sum: rows are unit, so it is 1.
    if method == "ridge":
        basis = torch.linalg.svd(left, full_matrices=False)[2][:6].T
        solution = torch.linalg.solve(
            right.T @ right + 0.3 * torch.eye(d2, dtype=torch.float64), right.T @ left
        )
        return basis, solution @ basis

    def whitener(rows: Tensor) -> Tensor:
        share = 0.3 / n * max(d1, d2) * n / rows.shape[1]
        values, vectors = torch.linalg.eigh(
            rows.T @ rows + share * torch.eye(rows.shape[1], dtype=torch.float64)
        )
        return vectors @ torch.diag(values**-0.5) @ vectors.T

    u, correlations, vt = torch.linalg.svd(whitener(left) @ cross @ whitener(right))
    weights = correlations[:6] ** 0.7
    return whitener(left) @ u[:, :6] * weights, whitener(right) @ vt[:6].T * weights


def centred_by_hand(rows: Tensor, mean: Tensor) -> Tensor:
    return normalize(rows - mean, dim=-1)


@pytest.mark.parametrize("method", ["procrustes", "ridge", "cca"])
def test_a_matrix_form_projects_as_its_formula(world, tmp_path, method):
    settings = settings_for(method)
    made, (hub, leaf) = made_by(world, tmp_path / "out", settings), rows_of(world, settings)
    centred = {
        (space, role): centred_by_hand(rows[space], rows[space].mean(dim=0))
        for role, rows in (("hub", hub), ("leaf", leaf))
        for space in SPACES
    }
    maps = expected_maps(method, centred["left", "hub"], centred["right", "hub"])
    for role, modalities in (("hub", ("text", "text")), ("leaf", ("audio", "image"))):
        rows = {"hub": hub, "leaf": leaf}[role]
        found = [
            made.project(rows[space].float(), space, modality)
            for space, modality in zip(SPACES, modalities, strict=True)
        ]
        wanted = [
            normalize(centred[space, role] @ matrix, dim=-1)
            for space, matrix in zip(SPACES, maps, strict=True)
        ]
        # Directions have no sign of their own, so that similarities are compared.
        for one in (0, 1):
            for other in (0, 1):
                close(found[one] @ found[other].T, wanted[one] @ wanted[other].T, atol=1e-4)


@every_method
@pytest.mark.parametrize("centring", ["auto", "none", "hub", "modality"])
def test_the_means_are_those_of_the_setting(world, tmp_path, method, centring):
    settings = settings_for(method, centring=centring)
    made, (hub, leaf) = made_by(world, tmp_path / "out", settings), rows_of(world, settings)
    means = "modality" if centring == "auto" else centring
    for space, modality in (("left", "audio"), ("right", "image")):
        offsets = {
            name: tensor
            for name, tensor in made.projectors[space].state_dict().items()
            if name.startswith("offset")
        }
        hub_mean = hub[space].mean(dim=0)
        expected = {"offset": torch.zeros_like(hub_mean) if means == "none" else hub_mean}
        if means == "modality":
            expected |= {"offset_text": hub_mean, f"offset_{modality}": leaf[space].mean(dim=0)}
        assert offsets.keys() == expected.keys()
        for name, mean in expected.items():
            close(offsets[name], mean, atol=1e-6)


def test_a_modality_is_asked_for_where_it_has_a_mean_of_its_own(world, tmp_path):
    made = made_by(world, tmp_path / "out", settings_for("cca"))
    rows = world.leaf[0].tensor()
    with pytest.raises(
        UserError,
        match=r"the mean of each modality \(of text, audio\) and none was named: pass modality=$",
    ):
        made.project(rows, "left")
    as_audio, as_text = (made.project(rows, "left", modality) for modality in ("audio", "text"))
    assert not torch.allclose(as_audio, as_text, atol=0.01)


@pytest.mark.parametrize("centring", ["none", "hub"])
def test_a_modality_is_not_asked_for_where_it_does_not_matter(world, tmp_path, centring):
    made = made_by(world, tmp_path / "out", settings_for("cca", centring=centring))
    rows = world.leaf[0].tensor()
    assert torch.equal(made.project(rows, "left"), made.project(rows, "left", "audio"))


@pytest.mark.parametrize("leaves", [0, 1])
@every_method
def test_leaves_are_not_needed(world, tmp_path, method, leaves):
    made = made_by(world, tmp_path / "out", settings_for(method), leaf=world.leaf[:leaves])
    assert made.metrics["held_out_r1"] > 3 / 20
    offsets = [name for name in made.projectors["right"].state_dict() if "image" in name]
    assert offsets == []
    # A modality without a memory has the mean of the hub.
    rows = world.leaf[1].tensor()
    assert torch.equal(made.project(rows, "right", "image"), made.project(rows, "right", "text"))


@every_method
def test_leaves_change_nothing_but_the_means(world, tmp_path, method):
    settings = settings_for(method)
    made = [
        made_by(world, tmp_path / name, settings, leaf=leaf)
        for name, leaf in (("without", ()), ("with", world.leaf))
    ]
    states = [one.projectors["left"].state_dict() for one in made]
    assert states[1].keys() - states[0].keys() <= {"offset_audio"}
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])


def hub_of(folder, items: int, *, same: bool = False):
    return [
        write_items(
            folder / f"{space}.h5", space, "text", [0] * items if same else range(items),
            ids=[str(item) for item in range(items)],
        )
        for space in SPACES
    ]  # fmt: skip


@every_method
def test_two_hub_items_are_enough_and_one_is_not(tmp_path, method):
    settings = settings_for(method, holdout=0.0)
    hub = hub_of(tmp_path, 2)
    made = train(hub, [], tmp_path / "out", settings, device="cpu")
    projected = made.project(hub[0].tensor(), "left", "text")
    assert torch.isfinite(projected).all()
    (tmp_path / "few").mkdir()
    with pytest.raises(UserError):
        train(hub_of(tmp_path / "few", 1), [], tmp_path / "none", settings, device="cpu")
    assert not (tmp_path / "none" / "bridge.json").exists()


@every_method
def test_too_few_hub_items_are_a_sentence(world, monkeypatch, tmp_path, method):
    monkeypatch.setattr(closed_forms, "MINIMUM_ITEMS", 81)
    with pytest.raises(
        UserError, match=f"^{method} needs 81 hub items, 80 are left: give more, or"
    ):
        made_by(world, tmp_path / "out", settings_for(method))


@pytest.mark.parametrize("method", ["procrustes", "ridge", "cca"])
def test_items_that_are_all_the_same_are_a_sentence(tmp_path, method):
    hub = hub_of(tmp_path, 4, same=True)
    settings = settings_for(method, holdout=0.0)
    with pytest.raises(UserError, match=f"{method} finds no direction in which the 4 hub items "):
        train(hub, [], tmp_path / "out", settings, device="cpu")


def test_true_pairs_have_means_of_their_own(world, tmp_path):
    image = write_items(
        tmp_path / "image.h5", "right", "image", range(100), ids=list(world.hub[0].ids)
    )
    settings = settings_for("procrustes", holdout=0.0)
    made = train([world.hub[0], image], [], tmp_path / "out", settings, paired=True, device="cpu")
    offsets = made.projectors["right"].state_dict()
    close(offsets["offset_image"], normalize(image.tensor(), dim=-1).mean(dim=0))
    assert "offset_text" not in offsets


def test_a_finished_closed_form_is_kept_or_replaced_as_any_bridge(world, tmp_path):
    settings, out = settings_for("cca"), tmp_path / "out"
    first = made_by(world, out, settings)
    with pytest.raises(UserError, match="holds a finished bridge"):
        made_by(world, out, settings)
    kept = train(world.hub, world.leaf, out, settings, device="cpu", resume=True)
    assert kept.fingerprint == first.fingerprint
    other = replace(settings, penalty=3.0)
    with pytest.raises(UserError, match="trained on other memories or with other settings"):
        train(world.hub, world.leaf, out, other, device="cpu", resume=True)
    again = train(world.hub, world.leaf, out, other, device="cpu", overwrite=True)
    assert again.fingerprint != first.fingerprint
