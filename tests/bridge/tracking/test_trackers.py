"""What the real trackers hold after a training, an interrupted one, and one that failed them."""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.tracking.reporting import Reporter, TrackerFailed
from bridge.tracking.tracker import TRACKERS, TrackedRun, tracker_named
from bridge.training import run as training_run
from bridge.training.train import train
from features.errors import UserError
from tests.bridge.conftest import MIXTURE, SETTINGS, InterruptAfter, metrics_of

BRIEF = replace(SETTINGS, epochs=5)
UNTRACKED = {"epoch", "seconds", "part"}


def expected(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every figure, as metrics.jsonl has them."""
    told: dict[str, list[tuple[int, float]]] = {}
    for line in metrics_of(folder):
        prefix = f"{line['part']}/" if "part" in line else ""
        for name in line.keys() - UNTRACKED:
            told.setdefault(prefix + name, []).append((line["epoch"], line[name]))
    return told


def in_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    kept = events.EventAccumulator(str(folder / "tracking" / "tensorboard"))
    kept.Reload()
    return {
        tag: [(one.step, one.value) for one in kept.Scalars(tag)] for tag in kept.Tags()["scalars"]
    }


def same(found: dict[str, list[tuple[int, float]]], wanted: dict[str, list[tuple[int, float]]]):
    assert found.keys() == wanted.keys()
    for name, points in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        assert [value for _, value in found[name]] == pytest.approx(
            [value for _, value in points], rel=1e-6
        ), name


def test_tensorboard_reads_every_figure_of_every_epoch(world, tmp_path):
    trackers = [tracker_named("tensorboard")]
    train(world.hub, world.leaf, tmp_path / "out", BRIEF, device="cpu", trackers=trackers)
    wanted = expected(tmp_path / "out")
    assert len(wanted["loss"]) == 5
    same(in_tensorboard(tmp_path / "out"), wanted)


@pytest.mark.parametrize("checkpoints", [-1.0, 1e9])
def test_a_continued_training_has_no_step_twice(world, tmp_path, monkeypatch, checkpoints):
    """Without a checkpoint it begins anew, to figures that the tracker has already."""
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", checkpoints)
    out = tmp_path / "out"
    for progress in (InterruptAfter(3), None):
        given: dict[str, Any] = {"trackers": [tracker_named("tensorboard")], "device": "cpu"}
        if progress is None:
            train(world.hub, world.leaf, out, BRIEF, **given)
        else:
            with pytest.raises(KeyboardInterrupt):
                train(world.hub, world.leaf, out, BRIEF, progress=progress, **given)
            assert len(in_tensorboard(out)["loss"]) == 3
    same(in_tensorboard(out), expected(out))


def test_trained_again_it_is_another_run(world, tmp_path):
    for epochs in (5, 2):
        train(
            world.hub, world.leaf, tmp_path / "out", replace(SETTINGS, epochs=epochs),
            device="cpu", trackers=[tracker_named("tensorboard")], overwrite=True,
        )  # fmt: skip
    assert [step for step, _ in in_tensorboard(tmp_path / "out")["loss"]] == [1, 2]


def test_parts_of_an_ensemble_and_the_whole_have_names_of_their_own(world, tmp_path):
    settings = replace(SETTINGS, ensemble=2, epochs=2)
    trackers = [tracker_named("tensorboard")]
    made = train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu", trackers=trackers)
    whole = {f"bridge/{name}": [(1, value)] for name, value in made.metrics.items()}
    wanted = expected(tmp_path / "out")
    assert {name.partition("/")[0] for name in wanted} == {"seed 0", "seed 1"}
    found = {  # TensorBoard has no blanks in names
        name.replace(" ", "_"): points for name, points in {**wanted, **whole}.items()
    }
    same({k.replace(" ", "_"): v for k, v in in_tensorboard(tmp_path / "out").items()}, found)


def test_a_mixture_that_is_weighed_tells_its_weights(world, tmp_path):
    trackers = [tracker_named("tensorboard")]
    made = train(world.hub, world.leaf, tmp_path / "out", MIXTURE, device="cpu", trackers=trackers)
    found = in_tensorboard(tmp_path / "out")
    assert found["bridge/held_out_r1"] == [(1, pytest.approx(made.metrics["held_out_r1"]))]


def in_parts(world, out: Path, name: str, monkeypatch) -> Path:
    """Stopped after two epochs of four, and continued with a tracker that is new to it."""
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", -1.0)
    settings = replace(SETTINGS, epochs=4)
    given: dict[str, Any] = {"device": "cpu", "trackers": [tracker_named(name)]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrackerFailed)
        with pytest.raises(KeyboardInterrupt):
            train(world.hub, [], out, settings, progress=InterruptAfter(2), **given)
        given["trackers"] = [tracker_named(name)]
        train(world.hub, [], out, settings, **given)
    return out


def test_trackio_has_one_run_with_every_step_once(world, tmp_path, monkeypatch, capfd):
    assert "trackio" not in sys.modules  # it reads its folder's name once
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    out = in_parts(world, tmp_path / "tracked-run", "trackio", monkeypatch)
    with sqlite3.connect(tmp_path / "trackio" / "mcr-bridge.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step")
        found = rows.fetchall()
    assert [row[:2] for row in found] == [("tracked-run", step) for step in (1, 2, 3, 4)]
    losses = [value for _, value in expected(out)["loss"]]
    assert [json.loads(row[2])["loss"] for row in found] == pytest.approx(losses)
    assert capfd.readouterr().out == ""


def test_wandb_offline_has_one_run_with_every_epoch_once(world, tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = in_parts(world, tmp_path / "out", "wandb", monkeypatch)
    files = sorted((out / "tracking" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # the same id
    logged = [line for file in files for line in history_in(file)]
    assert [line["epoch"] for line in logged] == [1, 2, 3, 4]
    losses = [value for _, value in expected(out)["loss"]]
    assert [line["loss"] for line in logged] == pytest.approx(losses)
    assert capfd.readouterr().out == ""


def history_in(file: Path) -> list[dict[str, Any]]:
    """What was logged to a run that wandb keeps for `wandb sync`: records in LevelDB's log format.

    Seven bytes of the file, then blocks of 32 KiB of pieces: checksum, length, which part.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, whole, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, part = struct.unpack("<HB", content[at + 4 : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # all of a record, or its last piece
            record, whole = Record.FromString(whole), b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                found.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
    return found


class Failing:
    """A tracker that breaks where it is told to."""

    name = "failing"

    def __init__(self, where: str) -> None:
        self.where, self.calls = where, []

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if what == self.where:
            raise ConnectionError("the server\n is gone")

    def start(self, run: TrackedRun) -> Mapping[str, int]:  # noqa: ARG002
        self._call("start")
        return {}

    def log(self, step: int, figures: Mapping[str, float]) -> None:  # noqa: ARG002
        self._call("log")

    def finish(self) -> None:
        self._call("finish")


@pytest.mark.parametrize(
    ("where", "calls"),
    [
        ("start", ["start"]),
        ("log", ["start", "log"]),
        ("finish", ["start", *5 * ["log"], "finish"]),
    ],
)
def test_a_tracker_that_fails_is_told_once_and_the_training_goes_on(world, tmp_path, where, calls):
    failing = Failing(where)
    trackers = [failing, tracker_named("tensorboard")]
    with pytest.warns(TrackerFailed) as told:
        train(world.hub, world.leaf, tmp_path / "out", BRIEF, device="cpu", trackers=trackers)
    (one,) = [one for one in told if one.category is TrackerFailed]
    assert str(one.message) == (
        f"the tracker failing failed ({where}: the server is gone) and gets no more figures; the "
        "training goes on, and metrics.jsonl has them all"
    )
    assert failing.calls == calls
    same(in_tensorboard(tmp_path / "out"), expected(tmp_path / "out"))


def test_steps_that_a_tracker_has_are_left_out(tmp_path):
    class Remembering(Failing):
        def start(self, run: TrackedRun) -> Mapping[str, int]:
            super().start(run)
            return {"loss": 2}

        def log(self, step: int, figures: Mapping[str, float]) -> None:
            self.calls.append((step, dict(figures)))

    tracker = Remembering("nowhere")
    reporter = Reporter([tracker], TrackedRun("run", tmp_path, {}, True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in (1, 2, 3):
            reporter.log(step, {"loss": 0.5})
        reporter.log(2, {"loss": 0.25, "score": 1.0})
        reporter.of_part("linear")(1, {"loss": 0.125})
        reporter.finish()
    assert tracker.calls == [
        "start", (3, {"loss": 0.5}), (2, {"score": 1.0}), (1, {"linear/loss": 0.125}), "finish"
    ]  # fmt: skip


def test_another_name_and_a_missing_package_are_sentences(monkeypatch):
    with pytest.raises(UserError, match=r"no tracker 'mlflow': choose tensorboard, trackio or w"):
        tracker_named("mlflow")
    monkeypatch.setattr("features.extras.find_spec", lambda _: None)
    for name in TRACKERS:
        with pytest.raises(UserError, match=rf'--track {name} needs .* "mcr-bridge\[{name}\]"'):
            tracker_named(name)
