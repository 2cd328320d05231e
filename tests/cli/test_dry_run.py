"""`--dry-run`: what would be done and what it takes, and nothing written."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bridge.config import TrainSettings
from bridge.training.estimates import Size, estimate_training
from cli.dry_run import told_bytes, told_seconds
from features.extraction.estimates import estimate_index
from features.memories.memory import Memory
from tests.cli.conftest import SMALL, answer, done, mcr
from tests.cli.recipes import AFTER_TRAINING, STEPS, edit, files_below, run, write_recipe


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", ""))  # put back after


def test_an_extraction_is_estimated_from_its_items(workshop, tmp_path):
    before = files_below(workshop.folder)
    out = tmp_path / "out.h5"
    told = answer(
        "extract", workshop.files / "images.csv", "-e", workshop.specs["sees"], "-m", "image",
        "-o", out, "--id-column", "key", "--label-column", "number", "--device", "cpu", "--dry-run",
    )  # fmt: skip
    assert told["items"] == len(Memory(workshop.memory("images")))
    content = Memory(workshop.memory("images"))
    strings = [*content.ids, *content.items, *(content.labels or ())]
    rows = content.embeddings.nbytes
    assert told["disk"] == rows + sum(len(one) + 8 for one in strings)
    assert told["disk"] < workshop.memory("images").stat().st_size
    assert told["peak_disk"] == told["disk"] + rows
    assert 0 < told["seconds"] < 60
    assert told["memory"] > 1e7
    assert "items were embedded" in told["how"]
    assert files_below(workshop.folder) == before
    assert list(tmp_path.iterdir()) == []


def test_what_was_embedded_before_is_not_counted_again(workshop, tmp_path):
    out = tmp_path / "out.h5"
    partial = tmp_path / "out.h5.partial"
    partial.mkdir()
    (partial / "journal.jsonl").write_text("{}\n" * 7)
    arguments = (
        "extract", workshop.files / "images.csv", "-e", workshop.specs["sees"], "-m", "image",
        "-o", out, "--device", "cpu", "--dry-run", "--batch-size",
    )  # fmt: skip
    assert answer(*arguments, 100)["seconds"] == 0
    assert answer(*arguments, 1)["seconds"] > 0


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_index_is_as_large_as_told(workshop, tmp_path, kind):
    shared = workshop.memory("shared")
    told = answer("index", shared, "--kind", kind, "-o", tmp_path / "x.faiss", "--dry-run")
    assert list(tmp_path.iterdir()) == []
    done("index", shared, "--kind", kind, "-o", tmp_path / "x.faiss")
    assert told["disk"] == pytest.approx((tmp_path / "x.faiss").stat().st_size, rel=0.1)


def test_a_flat_index_grows_with_its_items():
    for items, dimension in ((1000, 32), (1_000_000, 32)):
        estimate = estimate_index("flat", items, dimension)
        assert estimate.disk == pytest.approx(items * dimension * 4, rel=0.01)
    rows = np.eye(64, dtype=np.float32)
    assert estimate_index("flat", 64, 64, rows).items == 64


def test_a_training_is_estimated_and_not_begun(workshop, tmp_path):
    hub = ("--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"))
    leaf = ("--leaf", workshop.memory("sounds"), "--leaf", workshop.memory("images"))
    result = done("train", *hub, *leaf, *SMALL, "-o", tmp_path / "b", "--dry-run")
    assert result.stdout.startswith("would train a bridge by cmcr on ")
    assert result.stdout.splitlines()[-1] == "nothing was written"
    assert list(tmp_path.iterdir()) == []
    done("train", *hub, *leaf, *SMALL, "-o", tmp_path / "b")
    told = answer("train", *hub, *leaf, *SMALL, "-o", tmp_path / "b", "--dry-run")
    weights = (tmp_path / "b" / "bridge.safetensors").stat().st_size
    assert 0.5 * weights < told["disk"] < weights  # beside weights there are running statistics


def test_training_costs_grow_with_epochs_and_items():
    def seconds(items: int, **settings: int) -> float:
        hub = [Size("x", "text", items, 16), Size("y", "text", items, 16)]
        leaf = [Size("x", "image", items, 16), Size("y", "audio", items, 16)]
        small = TrainSettings(dimension=16, hidden=16, batch=256, **settings)
        found = estimate_training(hub, leaf, small, device="cpu")
        assert found.seconds is not None
        assert found.memory == 4 * 16 * (2 * 2 * found.items + 2 * items)
        return found.seconds

    assert seconds(10_000, epochs=400) > 10 * seconds(10_000, epochs=1)
    assert seconds(1_000_000, epochs=1) > 20 * seconds(50_000, epochs=1)


def test_a_recipe_is_told_step_by_step(workshop, tmp_path):
    recipe = write_recipe(workshop, tmp_path)
    before = files_below(tmp_path)
    told = run(recipe, "--dry-run")
    steps = {step["step"]: step for step in told["steps"]}
    assert list(steps) == STEPS
    assert {step["action"] for step in steps.values()} == {"make"}
    assert steps["train"]["why"] == "after extract/text-hears"
    assert steps["train"]["items"] == 61  # of 64 sentences, 5 % held out
    assert steps["index/images"]["disk"] == pytest.approx(32 * 8 * 4, rel=0.2)
    assert steps["eval/sounds-to-images"]["unknown"]
    assert files_below(tmp_path) == before
    result = done("run", recipe, "--dry-run")
    assert "nothing was written" in result.stdout
    assert files_below(tmp_path) == before


def test_the_commands_that_are_told_do_what_the_steps_do(workshop, tmp_path, monkeypatch):
    recipe = write_recipe(workshop, tmp_path)
    told = run(recipe, "--dry-run")
    monkeypatch.chdir(tmp_path)
    for step in told["steps"]:
        assert step["command"][0] == "mcr"
        done(*step["command"][1:])
    made, wanted = Memory("out/shared/images.h5"), Memory(workshop.memory("shared"))
    assert (made.embeddings == wanted.embeddings).all()
    assert list(made.ids) == list(wanted.ids)


def test_after_a_run_the_recorded_rate_is_used_and_only_what_changed_is_told(workshop, tmp_path):
    recipe = write_recipe(workshop, tmp_path)
    run(recipe)
    assert {step["action"] for step in run(recipe, "--dry-run")["steps"]} == {"skip"}
    edit(recipe, 'modality = "image"', 'modality = "image"\ndtype = "float32"')
    before = files_below(tmp_path)
    told = {step["step"]: step for step in run(recipe, "--dry-run")["steps"]}
    assert [name for name, step in told.items() if step["action"] != "skip"] == [
        "extract/images", *AFTER_TRAINING
    ]  # fmt: skip
    assert "recorded when it ran before" in told["extract/images"]["how"]
    assert files_below(tmp_path) == before


def test_an_encoder_that_is_not_here_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    (tmp_path / "texts.txt").write_text("a dog\n")
    (tmp_path / "clip.toml").write_text(
        '[memory.texts]\nextract = "texts.txt"\nencoder = "mini:gone.safetensors"\n'
        'modality = "text"\n'
    )
    (step,) = run(tmp_path / "clip.toml", "--dry-run")["steps"]
    assert step["items"] == 1
    assert step["seconds"] is None
    assert step["how"].startswith("the encoder cannot be tried (")


def test_mistakes_are_told_as_the_command_itself_would(workshop):
    result = mcr("index", workshop.memory("shared"), "--kind", "falt", "--dry-run")
    assert result.exit_code == 2
    assert "error: FAISS cannot make the index 'falt'" in result.stderr


def test_sizes_and_times_are_told_for_people():
    assert [told_bytes(one) for one in (0, 999, 1500, 2_400_000_000)] == [
        "0 B", "999 B", "1.5 kB", "2.4 GB"
    ]  # fmt: skip
    assert [told_seconds(one) for one in (0.5, 59, 90, 7200, 200_000)] == [
        "under 1 s", "59 s", "1.5 min", "2.0 h", "2.3 days"
    ]  # fmt: skip
