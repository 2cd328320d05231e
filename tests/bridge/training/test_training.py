"""What training reaches, and that it can be repeated and interrupted."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from bridge.artefact import load
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.metrics.retrieval import paired_retrieval
from bridge.training import run
from bridge.training.train import train
from bridge.training.training_set import check_memories, load_rows
from features.errors import UserError
from tests.bridge.conftest import SETTINGS, InterruptAfter, metrics_of, write_items
from tests.features.helpers import ended_process

SHORT = replace(SETTINGS, epochs=4)


def weights_of(folder) -> bytes:
    return (folder / "bridge.safetensors").read_bytes()


def test_the_loss_falls_and_held_out_items_find_themselves(world, made):
    log = metrics_of(world.folder / "made")
    assert [line["epoch"] for line in log] == list(range(1, SETTINGS.epochs + 1))
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert log[-1]["inter_hub"] < log[0]["inter_hub"]
    held_out = 20
    assert log[-1]["held_out_r1"] > 4 / held_out
    assert made.metrics == log[-1]


def test_modalities_that_never_met_find_each_other(world, made):
    figures = evaluate_retrieval(made, *world.test)
    assert figures.chance == pytest.approx(1 / 8)
    assert figures.forward.recall[1] > 4 * figures.chance
    assert figures.backward.recall[1] > 4 * figures.chance


def test_the_logged_loss_is_the_weighted_sum_of_its_terms(world, made):  # noqa: ARG001
    for line in metrics_of(world.folder / "made"):
        expected = line["inter_hub"] + line["inter_leaf"] + 0.1 * line["intra"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(world, tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        settings = replace(SHORT, seed=seed)
        train(world.hub, world.leaf, tmp_path / name, settings, device="cpu")
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "same")
    assert weights_of(tmp_path / "one") != weights_of(tmp_path / "other")
    assert metrics_of(tmp_path / "one") == metrics_of(tmp_path / "same")


def test_the_global_generators_stay_untouched_and_do_not_matter(world, tmp_path):
    torch.manual_seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    train(world.hub, world.leaf, tmp_path / "one", SHORT, device="cpu")
    untouched = torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    train(world.hub, world.leaf, tmp_path / "two", SHORT, device="cpu")
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "two")
    assert (np.random.get_state()[1] == numpy_before).all()
    assert untouched


@pytest.mark.parametrize("epochs", [1, 2, 5, 7, 8])
@pytest.mark.parametrize("patience", [None, 6])
def test_an_interrupted_training_continues_to_the_same_bytes(
    world, tmp_path, monkeypatch, epochs, patience
):
    settings = replace(SETTINGS, epochs=8, patience=patience)
    train(world.hub, world.leaf, tmp_path / "whole", settings, device="cpu")
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        train(world.hub, world.leaf, out, settings, device="cpu", progress=InterruptAfter(epochs))
    with pytest.raises(UserError, match="parts is not "):
        load(out)
    train(world.hub, world.leaf, out, settings, device="cpu")
    assert weights_of(out) == weights_of(tmp_path / "whole")
    assert metrics_of(out) == metrics_of(tmp_path / "whole")
    assert load(out).metrics == load(tmp_path / "whole").metrics
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "bridge.json", "bridge.safetensors", "metrics.jsonl", "run.json",
        "settings.toml",
    ]  # fmt: skip


def test_a_training_interrupted_again_and_again_reaches_the_same_bytes(
    world, tmp_path, monkeypatch
):
    settings = replace(SETTINGS, epochs=6)
    train(world.hub, world.leaf, tmp_path / "whole", settings, device="cpu")
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    stops = 0
    while not (tmp_path / "parts" / "bridge.json").exists():
        try:
            train(
                world.hub, world.leaf, tmp_path / "parts", settings, device="cpu",
                progress=InterruptAfter(2),
            )  # fmt: skip
        except KeyboardInterrupt:
            stops += 1
    assert stops == 5
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")


def interrupted(world, out, monkeypatch, settings=SHORT):
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train(world.hub, world.leaf, out, settings, device="cpu", progress=InterruptAfter(3))


def test_an_unfinished_training_with_other_settings_is_refused(world, tmp_path, monkeypatch):
    interrupted(world, tmp_path / "out", monkeypatch)
    other = replace(SHORT, seed=5)
    with pytest.raises(UserError, match="unfinished training with other memories or settings"):
        train(world.hub, world.leaf, tmp_path / "out", other, device="cpu")
    train(world.hub, world.leaf, tmp_path / "out", other, device="cpu", overwrite=True)
    train(world.hub, world.leaf, tmp_path / "whole", other, device="cpu")
    assert weights_of(tmp_path / "out") == weights_of(tmp_path / "whole")
    assert metrics_of(tmp_path / "out") == metrics_of(tmp_path / "whole")


def test_an_unfinished_training_with_other_memories_is_refused(world, tmp_path, monkeypatch):
    interrupted(world, tmp_path / "out", monkeypatch)
    with pytest.raises(UserError, match="unfinished training with other memories or settings"):
        train(world.hub, world.leaf[:1], tmp_path / "out", SHORT, device="cpu")


def test_a_checkpoint_that_lost_its_weights_is_a_sentence(world, tmp_path, monkeypatch):
    interrupted(world, tmp_path / "out", monkeypatch)
    (file,) = (tmp_path / "out").glob("checkpoint-*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="checkpoint"):
        train(world.hub, world.leaf, tmp_path / "out", SHORT, device="cpu")


def test_a_finished_bridge_is_kept_unless_told_otherwise(world, tmp_path):
    out = tmp_path / "out"
    train(world.hub, world.leaf, out, SHORT, device="cpu")
    before = weights_of(out)
    with pytest.raises(UserError, match=r"out holds a finished bridge: pass --overwrite .*--resum"):
        train(world.hub, world.leaf, out, SHORT, device="cpu")
    kept = train(world.hub, world.leaf, out, SHORT, device="cpu", resume=True)
    assert kept.fingerprint == load(out).fingerprint
    other = replace(SHORT, seed=5)
    with pytest.raises(UserError, match="trained on other memories or with other settings"):
        train(world.hub, world.leaf, out, other, device="cpu", resume=True)
    with pytest.raises(UserError, match="trained on other memories or with other settings"):
        train(world.hub, world.leaf[:1], out, SHORT, device="cpu", resume=True)
    assert weights_of(out) == before
    train(world.hub, world.leaf, out, other, device="cpu", overwrite=True)
    assert weights_of(out) != before


def test_an_output_that_is_a_file_is_refused(world, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out is a file but a bridge is a folder"):
        train(world.hub, world.leaf, tmp_path / "out", SHORT, device="cpu")


def test_moved_memories_still_continue_their_training(world, tmp_path, monkeypatch):
    """The fingerprints say which memories they are, wherever they lie."""
    interrupted(world, tmp_path / "out", monkeypatch)
    moved = [
        type(m)(shutil.copy(m.path, tmp_path / m.path.name)) for m in (*world.hub, *world.leaf)
    ]
    train(moved[:2], moved[2:], tmp_path / "out", SHORT, device="cpu")
    train(world.hub, world.leaf, tmp_path / "whole", SHORT, device="cpu")
    assert weights_of(tmp_path / "out") == weights_of(tmp_path / "whole")


def held_out_mrr(bridge, world) -> float:
    frozen = load_rows(
        check_memories(world.hub, world.leaf),
        holdout=bridge.settings.holdout,
        seed=bridge.settings.seed,
        device=torch.device("cpu"),
    )
    left, right = (bridge.project(rows, space) for space, rows in frozen.held_out.items())
    pair = paired_retrieval(left @ right.T), paired_retrieval(right @ left.T)
    return sum(one.mean_average_precision for one in pair) / 2


def test_patience_stops_early_and_keeps_the_best_epoch(world, tmp_path):
    settings = replace(SETTINGS, epochs=200, patience=3, learning_rate=0.05)
    kept = train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu")
    log = metrics_of(tmp_path / "out")
    scores = [line["held_out_mrr"] for line in log]
    best = max(range(len(scores)), key=lambda epoch: (scores[epoch], epoch))
    assert len(log) == best + 1 + 3 < 200
    assert held_out_mrr(kept, world) == pytest.approx(scores[best], abs=1e-6)
    assert kept.metrics == log[best]


def test_without_patience_the_last_epoch_is_kept(world, made):
    last = metrics_of(world.folder / "made")[-1]
    assert held_out_mrr(made, world) == pytest.approx(last["held_out_mrr"], abs=1e-6)


def test_a_bridge_says_what_it_was_trained_on(world, made):
    about = load(world.folder / "made").about()
    assert [(m["role"], m["space"], m["modality"], m["items"]) for m in about["memories"]] == [
        ("hub", "left", "text", 100),
        ("hub", "right", "text", 100),
        ("leaf", "left", "audio", 64),
        ("leaf", "right", "image", 56),
    ]
    memories = (*world.hub, *world.leaf)
    assert [m.fingerprint for m in made.memories] == [m.fingerprint for m in memories]
    assert about["settings"] == asdict(SETTINGS)
    assert set(about["versions"]) >= {"torch", "python", "mcr-bridge"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_trained_bridge_projects_as_the_saved_one(world, tmp_path, precision):
    settings = replace(SHORT, precision=precision)
    trained = train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu")
    rows = world.test[0].tensor()
    saved = load(tmp_path / "out", device="cpu")
    assert torch.equal(trained.project(rows, "left"), saved.project(rows, "left"))


@pytest.mark.parametrize("items", [2, 3, 5, 7])
def test_any_number_of_items_can_be_trained_in_the_smallest_batches(tmp_path, items):
    hub = [write_items(tmp_path / f"{s}.h5", s, "text", range(items)) for s in ("left", "right")]
    settings = replace(SETTINGS, epochs=2, batch=2, holdout=0.0)
    bridge = train(hub, [], tmp_path / "out", settings, device="cpu")
    assert torch.isfinite(bridge.project(hub[0].tensor(), "left")).all()


def test_patience_without_held_out_items_is_refused(world, tmp_path):
    settings = replace(SHORT, holdout=0.0, patience=1)
    with pytest.raises(UserError, match="patience is 1 but no hub items are held out"):
        train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu")


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(world, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match="is not a bridge's folder"):
        train(world.hub, world.leaf, tmp_path, SHORT, device="cpu")
    assert (tmp_path / "README.md").read_text() == "mine"


def test_overwriting_keeps_the_old_bridge_until_the_new_one_is_done(world, tmp_path):
    train(world.hub, world.leaf, tmp_path / "out", SHORT, device="cpu")
    old = weights_of(tmp_path / "out")
    impossible = replace(SHORT, pseudo_pairs="leaf")
    with pytest.raises(UserError, match="no leaf memory is given"):
        train(world.hub, [], tmp_path / "out", impossible, device="cpu", overwrite=True)
    assert weights_of(tmp_path / "out") == old
    assert load(tmp_path / "out", device="cpu").settings == SHORT


@pytest.mark.parametrize("file", ["run.json", "checkpoint-2.safetensors"])
def test_what_a_killed_process_was_writing_is_neither_in_the_way_nor_stays(world, tmp_path, file):
    out = tmp_path / "out"
    out.mkdir()
    (out / f".{file}.{platform.node()}-{ended_process()}.tmp").touch()
    train(world.hub, world.leaf, out, SHORT, device="cpu")
    assert not [path for path in out.iterdir() if path.name.startswith((".", "checkpoint"))]


def test_a_checkpoint_of_another_epoch_that_was_being_written_does_not_stay(
    world, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    interrupted(world, out, monkeypatch)
    (out / f".checkpoint-2.safetensors.{platform.node()}-{ended_process()}.tmp").touch()
    train(world.hub, world.leaf, out, SHORT, device="cpu")
    assert not [path for path in out.iterdir() if path.name.startswith((".", "checkpoint"))]
