"""The folder of a mixture: what it holds, damage, and leftovers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from bridge.artefact import load
from bridge.projector import ProjectorSpec
from bridge.runs.layout import PARTS_FOLDER
from bridge.training.checkpoint import MIXTURE_FILE
from bridge.training.train import train
from features.errors import UserError
from features.sealed import read_sealed
from tests.bridge.conftest import MIXTURE


def test_the_weights_of_a_mixture_are_tensors_of_the_bridge(world, mixed, tmp_path):
    """Another weight makes another shared space, and so another fingerprint."""
    folder = shutil.copytree(world.folder / "mixed", tmp_path / "copied")
    about = read_sealed(folder / "bridge.json")
    assert all("weights" not in space["projector"] for space in about["spaces"])
    tensors = load_file(folder / "bridge.safetensors")
    tensors["left/weights"] = tensors["left/weights"].flip(0)
    save_file(tensors, folder / "bridge.safetensors")
    with pytest.raises(UserError, match=rf"has fingerprint .* but .* says {mixed.fingerprint}"):
        load(folder)


PART = {"shape": "linear", "inputs": 12, "outputs": 16}


@pytest.mark.parametrize(
    "change",
    [
        {"parts": 3},
        {"parts": []},
        {"parts": [PART]},  # of several
        {"parts": [PART | {"inputs": 0}]},
        {"parts": [PART | {"shape": "mixture"}]},
        {"inputs": 0},
        {"outputs": -1},
        {"hidden": -1},
        {"weights": [1.0]},
    ],
    ids=str,
)
def test_a_mixture_that_does_not_fit_its_weights_is_damage(world, mixed, tmp_path, change):
    folder = shutil.copytree(world.folder / "mixed", tmp_path / "copied")
    about = mixed.about()
    assert len(about["spaces"][0]["projector"]["parts"]) > 1
    about["spaces"][0]["projector"] |= change
    (folder / "bridge.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="is damaged"):
        load(folder)


@pytest.mark.parametrize(
    ("described", "wrong"),
    [
        (PART | {"inputs": 0}, "a projector of 0 x 0 x 16"),
        (PART | {"outputs": -2}, "a projector of 12 x 0 x -2"),
        (PART | {"hidden": -3}, "a projector of 12 x -3 x 16"),
        (PART | {"shape": "mixture"}, "a mixture without parts"),
        (PART | {"shape": "mixture", "parts": []}, "a mixture without parts"),
    ],
)
def test_sizes_that_no_projector_has_are_a_value_error(described, wrong):
    assert ProjectorSpec.from_dict(PART) == ProjectorSpec("linear", 12, 16)
    for nested in (described, {**PART, "shape": "mixture", "parts": [PART, described]}):
        with pytest.raises(ValueError, match=f"^{wrong}$"):
            ProjectorSpec.from_dict(nested)


def test_resuming_a_finished_bridge_removes_leftovers(world, mixed, tmp_path):
    """Of a run that was killed between saving the bridge and tidying up."""
    out = shutil.copytree(world.folder / "mixed", tmp_path / "mixed")
    (out / PARTS_FOLDER / "mlp2").mkdir(parents=True)
    (out / "parts").mkdir()
    left = (f"{PARTS_FOLDER}/mlp2/checkpoint.json", MIXTURE_FILE, "checkpoint.json",
            "checkpoint-3.safetensors")  # fmt: skip
    for name in (*left, "parts/mine"):
        (out / name).write_text("half of it")
    with pytest.raises(UserError, match="other settings than this command's"):
        train(world.hub, world.leaf, out, replace(MIXTURE, seed=1), device="cpu", resume=True)
    assert all((out / name).exists() for name in left)
    kept = train(world.hub, world.leaf, out, MIXTURE, device="cpu", resume=True)
    assert kept.fingerprint == mixed.fingerprint
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "README.md", "bridge.json", "bridge.safetensors", "parts", "run.json", "settings.toml"
    ]  # fmt: skip
    assert (out / "parts" / "mine").exists()
