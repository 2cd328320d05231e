"""`mcr train` into runs, `mcr runs`, `mcr push` and `mcr pull`, and their mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from features.sealed import read_sealed
from tests.cli.conftest import SMALL, Workshop, answer, done, without_results
from tests.cli.refusals import refused


def arguments(shop: Workshop, *more: object) -> tuple[object, ...]:
    hub = ("--hub", shop.memory("text-hears"), "--hub", shop.memory("text-sees"))
    leaf = ("--leaf", shop.memory("sounds"), "--leaf", shop.memory("images"))
    return ("train", *hub, *leaf, *SMALL, *more)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_place_a_run_is_made_and_told(workshop, here):
    told = done(*arguments(workshop)).stdout
    (folder,) = (here / "runs").iterdir()
    assert told.startswith(f"runs/{folder.name}: hears + sees, ")
    assert re.fullmatch(r"\d{8}-\d{6}-hears-sees-cmcr", folder.name)
    record = read_sealed(folder / "run.json")
    assert record["starts"][0]["command"]
    again = answer(*arguments(workshop, "--config", folder / "settings.toml", "--name", "again"))
    assert again["bridge"] == "runs/again"
    assert again["fingerprint"] == read_sealed(folder / "bridge.json")["fingerprint"]
    table = done("runs").stdout.splitlines()
    assert table[0].split()[:3] == ["run", "when", "method"]
    assert {line.split()[0] for line in table[1:]} == {folder.name, "again"}


def test_runs_are_listed_with_their_evaluations_and_compared(workshop, here):
    for seed in (1, 2):
        done(*arguments(workshop, "--name", f"seed{seed}", "--seed", seed))
    told = answer(
        "eval", "-b", "runs/seed1", "-q", workshop.memory("sounds"), "-g",
        workshop.memory("images"), "--relevance", "labels", "--resamples", 0, "--device", "cpu",
    )  # fmt: skip
    assert Path(told["result"]).parent == Path("runs/seed1/results")
    listed = {run["name"]: run for run in answer("runs")}
    assert [one["protocol"] for one in listed["seed1"]["evaluations"]] == ["retrieval"]
    assert listed["seed2"]["evaluations"] == []
    by_score = done("runs", "--sort", "retrieval").stdout.splitlines()
    assert by_score[1].startswith("seed1")
    assert re.search(r"retrieval R@1 \d\.\d{3}$", by_score[1])
    by_name = done("runs", "runs", "--sort", "name").stdout.splitlines()
    assert [line.split()[0] for line in by_name[1:]] == ["seed1", "seed2"]
    compared = answer("runs", "seed1", here / "runs" / "seed2")
    assert compared["settings"] == {"seed": [1, 2]}
    assert answer("runs", "--compare")["settings"] == {"seed": [2, 1]}  # newest first
    lines = done("runs", "seed1", "seed2").stdout.splitlines()
    assert lines[0].split() == ["settings", "that", "differ", "seed1", "seed2"]
    assert lines[1].split() == ["seed", "1", "2"]
    assert any(line.startswith("retrieval of sounds / images: audio -> image") for line in lines)
    assert [run["name"] for run in answer("runs", "seed1")] == ["seed1"]


def test_a_tracker_of_a_training(workshop, here):
    pytest.importorskip("tensorboard")
    done(*arguments(workshop, "--name", "tracked", "--track", "tensorboard"))
    assert list((here / "runs/tracked/tracking/tensorboard").glob("events.out.tfevents.*"))


def test_mistakes_are_a_sentence(workshop, here):
    done(*arguments(workshop, "--name", "one"))
    cases = [
        (("runs", "nowhere"), r"there is no folder nowhere with runs: make one with `mcr train`"),
        (("runs", "one", "nowhere"), r"nowhere is not a run, neither as a folder nor in runs"),
        (("runs", "--compare"), r"runs/one alone cannot be compared: name two runs or more"),
        (("runs", "--sort", "loss"), r"cannot be sorted by 'loss': choose when, name, method, ep"),
        (arguments(workshop, "--name", "a/b"), r"a run cannot be called 'a/b': use letters"),
        (arguments(workshop, "--name", "x", "--out", "y"), r"--name x and --out y both say where"),
        (arguments(workshop, "--name", "one"), r"runs/one holds a finished bridge: pass --overwr"),
        (arguments(workshop, "--track", "mlflow"), r"no tracker 'mlflow': choose tensorboard, tr"),
    ]
    for given, told in cases:
        assert re.search(told, refused(*given)), given
    assert [path.name for path in (here / "runs").iterdir()] == ["one"]


def test_push_and_pull_between_folders(workshop, here):
    bridge = without_results(workshop.sound_bridge, here / "mine")
    (bridge / "model.pkl").write_text("x")
    result = done("push", bridge, here / "shared" / "one")
    assert re.fullmatch(rf"{here}/shared/one: 6 files, 0\.\d MB\n", result.stdout)
    assert "left out: model.pkl" in result.stderr
    told = answer("pull", "shared/one", "-o", "back")
    assert (told["bridge"], told["commit"], told["left_out"]) == ("back", None, [])
    assert sorted(told["files"]) == sorted(path.name for path in (here / "back").iterdir())
    assert answer("info", "back")["fingerprint"] == answer("info", bridge)["fingerprint"]
    assert "back holds a bridge: pass --overwrite" in refused("pull", "shared/one", "-o", "back")
    assert "is not a bridge, it has no bridge.json" in refused("push", here / "shared", "x")
    assert "hf:x is no repository of the Hub" in refused("push", bridge, "hf:x")
    assert "hf: is no repository" in refused("pull", "hf:")
    assert "--revision is of repositories on the Hub" in refused(
        "pull", "./shared/one", "--revision", "main"
    )


def test_push_and_pull_without_a_network_are_a_sentence(workshop, here, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "cache"))
    told = refused("push", workshop.sound_bridge, "one/two")
    assert told == (
        "hf:one/two cannot be pushed to (http://127.0.0.1:9 is unreachable): try again with a "
        "network, or push to a plain folder"
    )
    assert "hf:one/two is not in the local cache" in refused("pull", "one/two")


def test_atlas_is_written_with_the_command_that_shows_it(workshop, here):
    parquet = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)
    told = done(
        "export", workshop.memory("images"), "-o", "x.parquet", "--format", "atlas",
        "--neighbors", 2,
    ).stdout.splitlines()  # fmt: skip
    assert told[1] == (
        "look at it with: embedding-atlas x.parquet --x projection_x --y projection_y --text item "
        "--image image --neighbors neighbors"
    )
    assert "projection_x" in parquet.read_schema(here / "x.parquet").names
    said = refused("export", workshop.memory("images"), "-o", "y.npy", "--projection", "umap")
    assert said == "npy has no place for --projection: use --format atlas"
