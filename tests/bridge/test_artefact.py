from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from bridge.artefact import VERSION, Bridge, load
from bridge.card import model_card
from features.errors import UserError
from features.sealed import read_sealed
from tests.bridge.conftest import SETTINGS, World


@pytest.fixture
def copied(world: World, made: Bridge, tmp_path: Path) -> Path:  # noqa: ARG001
    """A copy of the trained bridge that a test may damage."""
    return Path(shutil.copytree(world.folder / "made", tmp_path / "copied"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "bridge.json"
    about = read_sealed(path) | changes
    path.write_text(json.dumps({k: v for k, v in about.items() if v is not ...}))


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_saved_bridge_comes_back_the_same(made, tmp_path):
    made.save(tmp_path / "saved")
    back = load(tmp_path / "saved", device="cpu")
    assert back.about() == made.about()
    assert back.settings == SETTINGS
    assert back.spaces == made.spaces
    for space, projector in made.projectors.items():
        for name, tensor in projector.state_dict().items():
            assert torch.equal(back.projectors[space].state_dict()[name], tensor)


@pytest.mark.parametrize("space", ["left", "right"])
def test_a_loaded_bridge_projects_the_same_unit_rows(world, made, copied, space):
    rows = world.hub[space == "right"].tensor()
    projected = load(copied, device="cpu").project(rows, space)
    assert projected.shape == (100, 16)
    assert torch.equal(projected, made.project(rows, space))
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(100))


def test_saving_twice_gives_the_same_bytes(made, tmp_path):
    for name in ("one", "two"):
        made.save(tmp_path / name)
    for file in ("bridge.safetensors", "bridge.json", "README.md"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_row_is_projected_the_same_alone_and_in_company_and_at_any_length(world, made):
    rows = world.hub[0].tensor()
    projected = made.project(rows, "left")
    torch.testing.assert_close(made.project(rows[:1], "left"), projected[:1])
    torch.testing.assert_close(made.project(3 * rows, "left"), projected)
    assert made.project(rows[:0], "left").shape == (0, 16)


def test_nothing_is_pickled(world, made):  # noqa: ARG001
    names = sorted(path.name for path in (world.folder / "made").iterdir())
    assert names == [
        "README.md", "bridge.json", "bridge.safetensors", "metrics.jsonl", "run.json",
        "settings.toml",
    ]  # fmt: skip


def test_the_fingerprint_is_that_of_the_weights(made, copied):
    other = load(copied, device="cpu")
    assert other.fingerprint == made.fingerprint
    with torch.no_grad():
        other.projectors["left"].layers[0].weight[0, 0] += 1
    assert other.fingerprint != made.fingerprint


def test_the_card_names_spaces_modalities_and_memories(world, made):
    card = (world.folder / "made" / "README.md").read_text()
    assert card == model_card(made)
    assert "- **left**, 12-d: audio, text" in card
    assert "- **right**, 10-d: image, text" in card
    for memory in (*world.hub, *world.leaf):
        assert memory.fingerprint in card
    assert "| noise_variance | 0.004 |" in card


@pytest.mark.parametrize("space", ["clip", ""])
def test_an_unknown_space_is_refused(made, space):
    with pytest.raises(UserError, match=f"made joins left and right, not '{space}'"):
        made.project(torch.ones(1, 12), space)


@pytest.mark.parametrize("shape", [(3, 10), (12,), (1, 1, 12)])
def test_another_shape_is_refused(made, shape):
    with pytest.raises(UserError, match="embeddings of left are 12-d but these have shape "):
        made.project(torch.ones(shape), "left")


def test_the_spaces_of_a_modality(made):
    assert [space.name for space in made.spaces_of("text")] == ["left", "right"]
    assert [space.name for space in made.spaces_of("audio")] == ["left"]
    with pytest.raises(UserError, match=r"does not know points \(left: audio, text; right: image"):
        made.spaces_of("points")


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_truncated_weights_are_damage(copied, kept):
    path = copied / "bridge.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept > 1 else int(kept * len(content))])
    with pytest.raises(UserError, match=r"the bridge .*copied is damaged .*copy it again or train"):
        load(copied)


def test_weights_that_are_gone_are_damage(copied):
    (copied / "bridge.safetensors").unlink()
    with pytest.raises(UserError, match=r"the bridge .*copied is damaged"):
        load(copied)


def test_a_description_cut_in_half_is_damage(copied):
    cut_in_half(copied / "bridge.json")
    with pytest.raises(UserError, match=r"bridge\.json is damaged .*copy the bridge again"):
        load(copied)


@pytest.mark.parametrize("content", ["", "[]", "3", "null", "{}", '{"format": "other"}', "\xff"])
def test_a_description_that_is_something_else_is_damage(copied, content):
    (copied / "bridge.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"bridge\.json is damaged"):
        load(copied)


@pytest.mark.parametrize(
    "missing", ["name", "version", "settings", "spaces", "memories", "fingerprint"]
)
def test_a_description_without_an_entry_is_damage(copied, missing):
    edit(copied, **{missing: ...})
    with pytest.raises(UserError, match=r"bridge\.json is damaged"):
        load(copied)


@pytest.mark.parametrize(
    "change",
    [{"name": 1}, {"spaces": {}}, {"spaces": [1]}, {"memories": [{"path": 1}]}, {"versions": 1},
     {"matcher": "a"}, {"metrics": True}],
)  # fmt: skip
def test_a_description_of_other_kinds_is_damage(copied, change):
    edit(copied, **change)
    with pytest.raises(UserError, match=r"bridge\.json is damaged"):
        load(copied)


def test_a_projector_that_would_take_all_memory_is_damage(copied):
    spaces = read_sealed(copied / "bridge.json")["spaces"]
    for change in ({"inputs": 2**40}, {"hidden": 2**40}, {"outputs": -1}):
        changed = [{**one, "projector": {**one["projector"], **change}} for one in spaces]
        edit(copied, spaces=changed)
        with pytest.raises(UserError, match=r"bridge\.json is damaged"):
            load(copied)


def test_files_of_two_bridges_are_refused(made, copied, tmp_path):
    other = load(copied, device="cpu")
    with torch.no_grad():
        other.projectors["left"].layers[0].weight[0, 0] += 1
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "bridge.safetensors", copied)
    with pytest.raises(UserError) as caught:
        load(copied)
    assert f"has fingerprint {other.fingerprint}" in str(caught.value)
    assert f"bridge.json says {made.fingerprint}: copy both files" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 8},
        {"outputs": 8},
        {"inputs": 10},
        {"shape": "mlp1"},
        {"shape": "mlp3"},
        {"shape": ...},
        {"inputs": "12"},
        {"modalities": ["text"]},
        {"modalities": 3},
        {"more": 1},
    ],
    ids=str,
)
def test_a_projector_that_does_not_fit_the_weights_is_damage(copied, made, change):
    spaces = made.about()["spaces"]
    described = spaces[0]["projector"] | change
    spaces[0]["projector"] = {k: v for k, v in described.items() if v is not ...}
    edit(copied, spaces=spaces)
    with pytest.raises(UserError, match="is damaged"):
        load(copied)


def test_a_space_without_its_projector_is_damage(copied, made):
    spaces = made.about()["spaces"]
    del spaces[1]["projector"]
    edit(copied, spaces=spaces)
    with pytest.raises(UserError, match=r"bridge\.json is damaged"):
        load(copied)


def test_an_unfinished_training_says_how_to_go_on(copied):
    (copied / "bridge.json").rename(copied / "checkpoint.json")
    with pytest.raises(UserError, match=r"training of .*copied is not finished: run the same `mcr"):
        load(copied)


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_that_is_no_bridge_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError, match=rf"{name} is not a bridge, it has no bridge\.json: make on"
    ):
        load(tmp_path / name)


def test_a_newer_version_asks_for_an_upgrade(copied):
    edit(copied, version=VERSION + 1)
    told = f"has bridge format {VERSION + 1}, this program reads {VERSION}: upgrade mcr-bridge"
    with pytest.raises(UserError, match=told):
        load(copied)


def test_an_older_version_asks_to_be_made_again(copied):
    """Whatever its entries were."""
    edit(copied, version=1, spaces=..., fingerprint="other")
    with pytest.raises(UserError, match="has bridge format 1, this program reads 2: train it agai"):
        load(copied)
