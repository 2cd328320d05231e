"""Lists and comparisons of runs, from folders that were really trained and evaluated."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.artefact import load
from bridge.evaluation.results import write_result
from bridge.evaluation.retrieval_result import retrieval_result
from bridge.runs.comparing import compare_runs
from bridge.runs.listing import find_runs, read_summary, run_named
from bridge.training import run as training_run
from bridge.training.train import train
from features.errors import UserError
from features.memories.memory import Memory
from features.sealed import read_sealed
from tests.bridge.conftest import SETTINGS, InterruptAfter

SHORT = replace(SETTINGS, epochs=2)


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory) -> Path:
    """Two runs, measured on the same memories, and a closed form that is not measured."""
    folder = tmp_path_factory.mktemp("runs")
    for name, settings in (
        ("a", SHORT),
        ("b", replace(SHORT, seed=1, learning_rate=0.01)),
        ("c", replace(SHORT, method="ridge", hidden=1024, epochs=36, batch=None)),
    ):
        made = train(world.hub, world.leaf, folder / name, settings, device="cpu")
        if name != "c":
            measure(made, world, folder / name)
    return folder


def measure(made, world, folder: Path, **more) -> Path:
    result = retrieval_result(*world.test, bridge=made, annotations=None, relevance="auto",
                              resamples=0, **more)  # fmt: skip
    return write_result(result, folder / "results" / result.name)


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    return shutil.copytree(trained, tmp_path / "runs")


def test_a_list_says_of_what_and_how_good_each_run_is(trained):
    found, problems = find_runs(trained)
    assert (problems, [run.name for run in found]) == ([], ["c", "b", "a"])  # newest first
    runs = {run.name: run for run in found}
    assert {name: run.kind for name, run in runs.items()} == {
        "a": "cmcr", "b": "cmcr", "c": "ridge"
    }  # fmt: skip
    assert {name: run.epochs for name, run in runs.items()} == {"a": 2, "b": 2, "c": 0}
    for name, run in runs.items():
        made = load(trained / name, device="cpu")
        assert run.finished
        assert run.scores == {
            "held-out R@1": made.metrics["held_out_r1"],
            "held-out MRR": made.metrics["held_out_mrr"],
        }
        assert len(run.memories) == 4
    (one,) = runs["a"].evaluations
    told = json.loads(next((trained / "a" / "results").glob("*.json")).read_text())
    mean = sum(figures["R@1"] for figures in told["figures"].values()) / 2
    assert one.headline == ("retrieval R@1", pytest.approx(mean))
    assert runs["c"].evaluations == []


def test_hub_items_are_counted_once_in_words(trained):
    run = read_summary(trained / "a")
    counts = {(m["role"], m["modality"]): m["items"] for m in run.memories}
    assert run.data == (
        f"{counts['hub', 'text']} text + {counts['leaf', 'audio']} audio + "
        f"{counts['leaf', 'image']} image"
    )


def test_a_run_under_way_is_listed_as_such(world, tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", -1.0)
    for settings, name, epochs in (
        (replace(SHORT, epochs=9), "one", 3),
        (replace(SHORT, ensemble=2, epochs=2), "two", 3),
    ):
        with pytest.raises(KeyboardInterrupt):
            train(
                world.hub, world.leaf, tmp_path / name, settings, device="cpu",
                progress=InterruptAfter(epochs),
            )  # fmt: skip
        run = read_summary(tmp_path / name)
        assert (run.finished, run.kind, run.epochs) == (False, "cmcr", epochs)
        assert run.settings["epochs"] == settings.epochs
        assert run.scores["held-out R@1"] >= 0


def test_a_comparison_has_what_differs_and_all_figures(trained):
    compared = compare_runs([read_summary(trained / name) for name in ("a", "b", "c")])
    assert compared.names == ["a", "b", "c"]
    assert compared.settings["seed"] == [0, 1, 0]
    assert compared.settings["learning_rate"] == [0.001, 0.01, 0.001]
    assert compared.settings["kind"] == ["cmcr", "cmcr", "ridge"]
    assert "dimension" not in compared.settings
    assert set(compared.circumstances) == {"epochs trained"}
    row = compared.figures["retrieval of audio-test / image-test: audio -> image: R@1"]
    told = [next((trained / name / "results").glob("*.json")) for name in ("a", "b")]
    expected = [json.loads(p.read_text())["figures"]["audio -> image"]["R@1"] for p in told]
    assert row == [*expected, None]
    assert len(compared.figures["held-out MRR"]) == 3


def test_other_memories_devices_and_commits_are_circumstances(runs):
    about = read_sealed(runs / "b" / "bridge.json")
    about["memories"][2]["fingerprint"] = "0123456789abcdef"
    (runs / "b" / "bridge.json").write_text(json.dumps(about))
    record = read_sealed(runs / "b" / "run.json")
    record["starts"][-1] |= {
        "device": "cuda float16", "git": {"commit": "f" * 40, "branch": None, "dirty": True}
    }  # fmt: skip
    (runs / "b" / "run.json").write_text(json.dumps(record))
    found = compare_runs([read_summary(runs / name) for name in ("a", "b")]).circumstances
    assert found["device"][1] == "cuda float16"
    assert found["git"][1] == "ffffffffff + changes"
    (memory,) = [name for name in found if name.startswith("leaf ")]
    assert found[memory][1].endswith("(01234567)")


def test_the_same_protocol_on_other_memories_is_a_row_of_its_own(runs, world):
    made = load(runs / "b", device="cpu")
    other = Memory(world.leaf[0].path)
    result = retrieval_result(other, world.test[1], bridge=made, annotations=None,
                              relevance="labels", resamples=0)  # fmt: skip
    write_result(result, runs / "b" / "results" / result.name)
    compared = compare_runs([read_summary(runs / name) for name in ("a", "b")])
    titles = {name.split(":")[0] for name in compared.figures if name.startswith("retrieval")}
    assert len(titles) == 2
    name = f"retrieval of {other.path.stem} / image-test: audio -> image: mAP"
    assert compared.figures[name][0] is None
    assert compared.figures[name][1] is not None


def test_results_of_another_bridge_and_other_files_are_left_out(runs):
    (stale,) = (runs / "a" / "results").glob("*.json")
    shutil.copy(stale, runs / "c" / "results.json")
    (runs / "c" / "results").mkdir()
    shutil.copy(stale, runs / "c" / "results" / "old.json")
    (runs / "c" / "results" / "notes.json").write_text("{}")
    run = read_summary(runs / "c")
    assert (run.evaluations, run.stale) == ([], ["old.json"])


def test_damage_is_told_and_the_others_are_listed(runs):
    (runs / "a" / "bridge.json").write_text("{")
    (runs / "b" / "run.json").write_text("[]")
    (runs / "not-a-run").mkdir()
    found, problems = find_runs(runs)
    assert [run.name for run in found] == ["c"]
    assert len(problems) == 2
    assert "bridge.json is damaged" in problems[0]
    assert "run.json is damaged" in problems[1]
    (runs / "c" / "bridge.json").write_text('{"settings": {}}')
    with pytest.raises(UserError, match=r"c/bridge\.json is damaged"):
        read_summary(runs / "c")


def test_a_bridge_without_a_record_is_a_run_as_well(runs):
    (runs / "a" / "run.json").unlink()
    (runs / "a" / "metrics.jsonl").unlink()
    run = read_summary(runs / "a")
    assert (run.finished, run.epochs, run.starts) == (True, 2, ())
    assert run.when[:2] == "20"


def test_runs_are_named_by_path_or_within_runs(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    assert run_named(Path("a")) == Path("runs/a")
    assert run_named(runs / "b") == runs / "b"
    with pytest.raises(UserError, match=r"^x is not a run, neither as a folder nor in runs: "):
        run_named(Path("x"))


def test_folders_without_runs_are_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*none with runs: make one with"):
        find_runs(tmp_path / "none")
    with pytest.raises(UserError, match=r" has no runs: make one with `mcr train`, or name"):
        find_runs(tmp_path)


def test_a_list_comes_without_loading_torch():
    code = (
        "import sys, bridge.runs.comparing; "
        "print([m for m in ('torch', 'faiss', 'h5py', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"
