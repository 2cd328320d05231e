"""Every command that makes something, run for real; `test_query.py` has those that answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bridge.artefact import load
from cli.main import COMMANDS
from features.encoders import load_encoder
from features.memories.memory import Memory
from features.sealed import read_sealed
from features.search.index import open_index
from tests.cli.conftest import NUMBERS, SMALL, answer, done, mcr


def extract_arguments(workshop, out, table="images", space="sees", modality="image"):
    return (
        "extract", workshop.files / f"{table}.csv", "-e", workshop.specs[space], "-m", modality,
        "-o", out, "--device", "cpu",
    )  # fmt: skip


def train_arguments(workshop, out):
    return (
        "train", "--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"),
        "--leaf", workshop.memory("sounds"), "--leaf", workshop.memory("images"), "-o", out, *SMALL,
    )  # fmt: skip


def test_extract_writes_the_embeddings_of_the_encoder(workshop, tmp_path):
    out = tmp_path / "images.h5"
    result = done(*extract_arguments(workshop, out), "--id-column", "key", "--dtype", "float32")
    assert result.stdout == f"{out}: {len(NUMBERS)} image embeddings of sees, 12-d\n"
    memory = Memory(out)
    assert list(memory.ids) == [f"images-{number}" for number in NUMBERS]
    encoder = load_encoder(workshop.specs["sees"], device="cpu")
    inputs = [encoder.input("image")(workshop.item("image", number)) for number in NUMBERS]
    np.testing.assert_allclose(memory.embeddings, encoder.encode(inputs, "image"), atol=1e-5)


@pytest.mark.parametrize(
    ("table", "space", "modality", "items"),
    [
        ("texts", "sees", "text", 2 * len(NUMBERS)),
        ("sounds", "hears", "audio", len(NUMBERS)),
        ("clouds", "shapes", "points", len(NUMBERS)),
    ],
)
def test_extract_says_in_json_what_it_made(workshop, tmp_path, table, space, modality, items):
    out = tmp_path / "out.h5"
    told = answer(*extract_arguments(workshop, out, table, space, modality))
    memory = Memory(out)
    assert told == {
        "memory": str(out),
        "items": items,
        "space": space,
        "modality": modality,
        "dimension": memory.dimension,
        "fingerprint": memory.fingerprint,
        "failures": 0,
    }


def test_extract_keeps_only_the_rows_asked_for(workshop, tmp_path):
    out = tmp_path / "out.h5"
    two_digits = [number for number in NUMBERS if len(number) == 2]
    arguments = extract_arguments(workshop, out)
    done(*arguments, "--where", "digits=2", "--label-column", "number")
    assert list(Memory(out).labels) == two_digits


def test_extract_resumes_a_finished_output(workshop, tmp_path):
    arguments = extract_arguments(workshop, tmp_path / "out.h5")
    done(*arguments)
    before = (tmp_path / "out.h5").read_bytes()
    again = done(*arguments, "--resume")
    assert f"{len(NUMBERS)} of {len(NUMBERS)} items were done before" in again.stderr
    assert (tmp_path / "out.h5").read_bytes() == before


def test_extract_tells_of_items_that_failed_and_leaves_with_3(workshop, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in NUMBERS[:3]:
        source = workshop.item("image", number)
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "a-broken.png").write_bytes(source.read_bytes()[:60])
    (folder / "notes.doc").write_text("not a picture")
    result = mcr(
        "extract", folder, "-e", workshop.specs["sees"], "-m", "image",
        "-o", tmp_path / "out.h5", "--json",
    )  # fmt: skip
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert (told["items"], told["failures"]) == (3, 1)
    assert "files of other kinds" in result.stderr
    assert "1 items failed and are listed in" in result.stderr
    (line,) = (tmp_path / "out.failures.jsonl").read_text().splitlines()
    failure = json.loads(line)
    assert (failure["id"], failure["item"]) == ("a-broken.png", "a-broken.png")
    assert failure["reason"].startswith("cannot be decoded as an image (")


def test_train_writes_a_bridge_and_says_how_good_it_is(workshop, tmp_path):
    out = tmp_path / "bridge"
    result = done(*train_arguments(workshop, out))
    bridge = load(out)
    loss, score = bridge.metrics["loss"], bridge.metrics["held_out_r1"]
    assert result.stdout == (
        f"{out}: hears + sees, 8-d, loss {loss:.4f}, held-out hub R@1 {score:.3f}\n"
    )
    assert "train" in result.stderr
    assert (bridge.settings.epochs, bridge.settings.hidden) == (2, 16)


def test_train_prints_the_bridge_as_json(workshop, tmp_path):
    told = answer(*train_arguments(workshop, tmp_path / "bridge"), "--seed", "3")
    assert told.pop("bridge") == str(tmp_path / "bridge")
    assert told == read_sealed(tmp_path / "bridge" / "bridge.json")
    assert told["settings"]["seed"] == 3
    assert [space["name"] for space in told["spaces"]] == ["hears", "sees"]


def test_options_of_train_override_the_settings_file(workshop, tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text('projector = "linear"\nepochs = 9\ncentring = "hub"\n')
    told = answer(*train_arguments(workshop, tmp_path / "bridge"), "-c", config)
    settings = told["settings"]
    assert (settings["projector"], settings["epochs"], settings["centring"]) == ("linear", 2, "hub")


def test_a_flag_of_the_settings_file_can_be_switched_off(workshop, tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text('objective = "cwcl"\ncwcl_symmetric = true\n')
    arguments = (*train_arguments(workshop, tmp_path / "b"), "-c", config)
    told = answer(*arguments, "--no-cwcl-symmetric")
    assert told["settings"]["cwcl_symmetric"] is False
    told = answer(*arguments, "--overwrite")
    assert told["settings"]["cwcl_symmetric"] is True


def test_train_on_true_pairs(workshop, tmp_path):
    memories = []
    for table, space, modality in (("images", "sees", "image"), ("sounds", "hears", "audio")):
        memories += ["--pairs", tmp_path / f"{table}.h5"]
        arguments = extract_arguments(workshop, memories[-1], table, space, modality)
        done(*arguments, "--id-column", "number")
    told = answer("train", *memories, "-o", tmp_path / "bridge", *SMALL)
    assert [one["role"] for one in told["memories"]] == ["pairs", "pairs"]


def test_train_resumes_a_finished_bridge(workshop, tmp_path):
    first = answer(*train_arguments(workshop, tmp_path / "bridge"))
    assert answer(*train_arguments(workshop, tmp_path / "bridge"), "--resume") == first


def test_project_and_index_tell_what_they_made(workshop, tmp_path):
    shared = tmp_path / "shared.h5"
    result = done("project", workshop.memory("images"), "-b", workshop.sound_bridge, "-o", shared)
    assert result.stdout == f"{shared}: {len(NUMBERS)} image embeddings of sound-bridge, 8-d\n"
    result = done("index", shared)
    assert result.stdout == (
        f"{tmp_path / 'shared.faiss'}: {len(NUMBERS)} vectors, Flat, "
        "recall@10 1.0000 against exact search\n"
    )
    expected = load(workshop.sound_bridge).project(
        Memory(workshop.memory("images")).tensor(), "sees"
    )
    found = Memory(shared).tensor()
    np.testing.assert_allclose(found, expected, atol=2e-3)  # stored as float16
    (hit,) = open_index(tmp_path / "shared.faiss").search(found[:1].numpy(), 1)[0]
    assert hit.id == f"images-{NUMBERS[0]}"


def test_project_and_index_in_json(workshop, tmp_path):
    shared = tmp_path / "shared.h5"
    told = answer("project", workshop.memory("sounds"), "-b", workshop.sound_bridge, "-o", shared)
    assert (told["space"], told["modality"], told["dimension"]) == ("sound-bridge", "audio", 8)
    assert told["fingerprint"] == Memory(shared).fingerprint
    out = tmp_path / "other.faiss"
    told = answer("index", shared, "--out", out, "--kind", "hnsw")
    assert (told["index"], told["factory"], told["items"]) == (
        str(out),
        "HNSW32_SQfp16",
        len(NUMBERS),
    )
    assert told["recall@10"] > 0.9


def test_fit_makes_an_encoder_that_extract_can_use(workshop, tmp_path):
    table = tmp_path / "pairs.csv"
    rows = [f"{workshop.item('image', number)},number {number}" for number in NUMBERS[:6]]
    table.write_text("\n".join(["path,text", *rows]))
    out = tmp_path / "own.safetensors"
    result = done(
        "fit", table, "-m", "image=path", "-m", "text=text", "-o", out, "--steps", 3,
        "--batch", 4, "--dimension", 6, "--image-height", 16, "--image-width", 32,
        "--device", "cpu",
    )  # fmt: skip
    assert result.stdout.startswith(f"{out}: own, image, text, 6-d, loss ")
    assert "fit own" in result.stderr
    told = answer(
        "extract", workshop.files / "images", "-e", f"mini:{out}", "-m", "image",
        "-o", tmp_path / "own.h5",
    )  # fmt: skip
    assert (told["space"], told["dimension"], told["items"]) == ("own", 6, len(NUMBERS))


@pytest.mark.parametrize("steps", [1, 10, 20])
def test_fit_takes_any_number_of_steps(workshop, tmp_path, steps):
    table = tmp_path / "pairs.csv"
    rows = [f"{workshop.item('audio', number)},number {number}" for number in NUMBERS[:3]]
    table.write_text("\n".join(["path,text", *rows]))
    out = tmp_path / "own.safetensors"
    done(
        "fit", table, "-m", "audio=path", "-m", "text=text", "-o", out, "--steps", steps,
        "--batch", 2, "--dimension", 4, "--seconds", 0.2, "--device", "cpu",
    )  # fmt: skip
    assert out.exists()


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert done("--version").stdout == f"mcr-bridge {version('mcr-bridge')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["extract"],
        ["extract", "x", "-e", "mini-clip", "-m", "text", "-o", "y", "--batch-size", "0"],
        ["train", "-o", "x", "--epochs", "many"],
        ["query", "x", "-k", "0"],
        ["train", "-o", "x", "--nonsense"],
    ],
)
def test_wrong_usage_leaves_with_2(arguments):
    result = mcr(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: mcr" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name):
    assert done(name, "--help").stdout.startswith(f"Usage: mcr {name} ")
