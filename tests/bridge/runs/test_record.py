"""What a run says of itself, whatever the repository around it, and that its settings are whole."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bridge.artefact import load
from bridge.config import TrainSettings, load_settings
from bridge.runs import git
from bridge.runs.git import git_state
from bridge.runs.naming import named_folder
from bridge.runs.record import read_run, settings_toml
from bridge.training import run as training_run
from bridge.training.train import train
from features.errors import UserError
from features.sealed import read_sealed
from tests.bridge.conftest import SETTINGS, InterruptAfter, metrics_of

BRIEF = replace(SETTINGS, epochs=3)
COMMAND = ("mcr", "train", "--hub", "a name.h5")


def in_git(*arguments: str) -> str:
    identity = ("-c", "user.name=one", "-c", "user.email=one@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """The working folder is a repository with one commit."""
    monkeypatch.chdir(tmp_path)
    in_git("init", "-q", "-b", "main")
    Path("code.py").write_text("1")
    in_git("add", "code.py")
    in_git("commit", "-q", "-m", "first")
    return tmp_path


def test_a_run_says_when_by_what_command_and_of_which_commit_it_was(world, repository):
    out, before = repository / "out", datetime.now().astimezone() - timedelta(seconds=1)
    train(world.hub, world.leaf, out, BRIEF, device="cpu", command=COMMAND)
    record = read_run(out)
    assert record is not None
    assert record.finished is not None
    (start,) = record.starts
    assert before <= datetime.fromisoformat(start.when) <= datetime.fromisoformat(record.finished)
    assert shlex.split(start.command or "") == list(COMMAND)
    assert start.git == {"commit": in_git("rev-parse", "HEAD"), "branch": "main", "dirty": False}
    assert start.device.startswith("cpu ")


def test_nothing_is_said_twice(world, tmp_path):
    train(world.hub, world.leaf, tmp_path / "out", BRIEF, device="cpu")
    about = read_sealed(tmp_path / "out" / "bridge.json")
    record = read_sealed(tmp_path / "out" / "run.json")
    assert about.keys() & record.keys() == {"format", "version"}


def test_a_changed_file_is_dirty_and_a_new_one_is_not(repository):
    (repository / "new.py").write_text("1")
    assert git_state(repository)["dirty"] is False
    (repository / "code.py").write_text("2")
    assert git_state(repository)["dirty"] is True
    in_git("checkout", "-q", "--detach")
    assert git_state(repository)["branch"] is None


def test_a_repository_without_commits_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    in_git("init", "-q", "-b", "new")
    assert git_state(tmp_path) == {"commit": None, "branch": "new", "dirty": False}


def test_without_a_repository_without_git_or_in_time_there_is_no_state(tmp_path, monkeypatch):
    assert git_state(tmp_path) is None
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nsleep 5\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(git, "SECONDS", 0.2)
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state(tmp_path) is None


def test_a_continued_run_tells_of_both_starts(world, repository, monkeypatch):
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", -1.0)
    given = {"device": "cpu", "command": COMMAND}
    with pytest.raises(KeyboardInterrupt):
        train(world.hub, world.leaf, "out", BRIEF, progress=InterruptAfter(1), **given)
    begun = read_run(Path("out"))
    assert begun is not None
    assert (begun.finished, len(begun.starts)) == (None, 1)
    (repository / "code.py").write_text("2")
    train(world.hub, world.leaf, "out", BRIEF, **given)
    ended = read_run(Path("out"))
    assert ended is not None
    assert ended.starts[0] == begun.starts[0]
    assert [start.git["dirty"] for start in ended.starts] == [False, True]
    train(world.hub, world.leaf, "out", BRIEF, overwrite=True, **given)
    assert len(read_run(Path("out")).starts) == 1


SETTINGS_OF_KINDS = [
    TrainSettings(),
    TrainSettings(method="mixture", epochs=3, seed=7),
    TrainSettings(objective="cwcl", cwcl_space="left", cwcl_sharpness=2.5, ensemble=2),
    TrainSettings(objective="distil", smoothing=0.25, batch=17, patience=3),
    TrainSettings(objective="tcl", lmi_weight=0.5, learning_rate=1e-5),
    TrainSettings(method="ridge", penalty=1e-7),
    TrainSettings(method="routing", anchors=9),
]


@pytest.mark.parametrize("settings", SETTINGS_OF_KINDS, ids=lambda one: one.kind)
def test_the_settings_of_a_run_come_back_from_its_file(tmp_path, settings):
    file = tmp_path / "settings.toml"
    file.write_text(settings_toml(settings))
    assert load_settings(file) == settings
    assert load_settings(file, {"seed": 3}) == replace(settings, seed=3)


def test_the_file_is_whole_so_that_other_defaults_change_nothing():
    """Every setting of the kind is in it, set or told to be unset, and no other."""
    told = settings_toml(TrainSettings(objective="distil"))
    names = {line.removeprefix("# ").split(" ")[0] for line in told.splitlines()[1:]}
    assert {"distil_batch", "patience", "seed", "method"} <= names
    assert not {"cwcl_space", "intra_weight", "penalty"} & names


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": "other"}', '{"format": "mcr-bridge run", "version": 1}']
)
def test_a_damaged_record_is_a_sentence_and_stops_no_training(world, tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json is damaged \(.*\): remove it, or train again"):
        read_run(out)
    train(world.hub, world.leaf, out, BRIEF, device="cpu")
    assert read_run(out) is not None


def test_a_record_of_a_later_version_is_a_sentence(tmp_path):
    record = {"format": "mcr-bridge run", "version": 2, "plan": "", "starts": [], "finished": None}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"has format 2, this program reads up to 1: upgrade"):
        read_run(tmp_path)


def test_unnamed_runs_get_folders_that_sort_by_time(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = datetime.now().strftime("%Y%m%d-%H%M%S")
    made = [
        train(world.hub, world.leaf, settings=replace(BRIEF, seed=seed), device="cpu")
        for seed in (0, 1, 2)
    ]
    names = sorted(path.name for path in Path("runs").iterdir())
    assert {one.name for one in made} == set(names)
    assert before <= names[0] <= names[-1]
    assert all("-left-right-cmcr" in name for name in names)
    assert load(Path("runs") / made[1].name, device="cpu").settings.seed == 1


def test_an_unnamed_run_that_was_stopped_goes_on_where_it_was(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train(world.hub, world.leaf, settings=BRIEF, device="cpu", progress=InterruptAfter(2))
    (folder,) = Path("runs").iterdir()
    other = train(world.hub, world.leaf, settings=replace(BRIEF, seed=1), device="cpu")
    assert other.name != folder.name  # of other settings
    made = train(world.hub, world.leaf, settings=BRIEF, device="cpu")
    assert made.name == folder.name
    whole = train(world.hub, world.leaf, "whole", BRIEF, device="cpu")
    assert made.fingerprint == whole.fingerprint
    again = train(world.hub, world.leaf, settings=BRIEF, device="cpu")
    assert again.name != folder.name  # it is finished
    kept = train(world.hub, world.leaf, settings=BRIEF, device="cpu", resume=True)
    assert kept.name in (folder.name, again.name)
    assert len(list(Path("runs").iterdir())) == 3


class AtTheFirstEpoch:
    """A progress that does something while a bridge is trained."""

    def __init__(self, act) -> None:
        self.act, self.made = act, []

    @contextmanager
    def task(self, description: str, total: int, *, unit: str = "items", done: int = 0):  # noqa: ARG002
        def advance(count: int) -> None:  # noqa: ARG001
            if not self.made:
                self.made.append(self.act())

        yield advance


def test_the_same_training_twice_at_once_takes_two_folders(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", -1.0)
    second = AtTheFirstEpoch(lambda: train(world.hub, world.leaf, settings=BRIEF, device="cpu"))
    first = train(world.hub, world.leaf, settings=BRIEF, device="cpu", progress=second)
    assert second.made[0].name != first.name
    assert second.made[0].fingerprint == first.fingerprint
    assert {path.name for path in Path("runs").iterdir()} == {first.name, second.made[0].name}
    assert not list(Path("runs").rglob(".lock"))


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_that_is_trained_into_is_refused(world, tmp_path, how):
    def again() -> str:
        with pytest.raises(UserError, match=r"another process trains into .*out: wait for it, or"):
            train(world.hub, world.leaf, tmp_path / "out", BRIEF, device="cpu", **how)
        return "refused"

    second = AtTheFirstEpoch(again)
    train(world.hub, world.leaf, tmp_path / "out", BRIEF, device="cpu", progress=second)
    assert second.made == ["refused"]
    assert not (tmp_path / "out" / ".lock").exists()
    assert load(tmp_path / "out", device="cpu")


def test_the_lock_of_a_killed_training_holds_nobody_up(world, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()
    train(world.hub, world.leaf, tmp_path / "out", BRIEF, device="cpu")


def test_a_refused_training_leaves_no_folder(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = replace(BRIEF, holdout=0.0, patience=2)
    with pytest.raises(UserError, match="patience is 2 but no hub items are held out"):
        train(world.hub, world.leaf, settings=settings, device="cpu")
    with pytest.raises(UserError):
        train(world.hub[:1], world.leaf, settings=BRIEF, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_run_killed_before_it_wrote_anything_leaves_no_folder_for_long(
    world, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name, inside in (("killed", []), ("locked", [".lock"]), ("new", []), ("kept", ["notes"])):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        for one in inside:
            (folder / one).touch()
        if name != "new":
            os.utime(folder, (0, 0))
    made = train(world.hub, world.leaf, settings=BRIEF, device="cpu")
    assert sorted(one.name for one in Path("runs").iterdir()) == sorted(["new", "kept", made.name])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "-x", ".hidden", "a b"])
def test_names_that_are_no_folder_of_runs_are_refused(name):
    with pytest.raises(UserError, match=r"a run cannot be called '"):
        named_folder(name)


def test_a_name_is_a_folder_in_runs():
    assert named_folder("clip-clap_v1.2") == Path("runs/clip-clap_v1.2")


def test_a_mixture_keeps_the_epochs_of_its_parts(world, tmp_path):
    settings = replace(SETTINGS, ensemble=2, epochs=2)
    train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu")
    lines = metrics_of(tmp_path / "out")
    assert [(line["part"], line["epoch"]) for line in lines] == [
        ("seed 0", 1), ("seed 0", 2), ("seed 1", 1), ("seed 1", 2)
    ]  # fmt: skip
    alone = train(world.hub, world.leaf, tmp_path / "alone", replace(SETTINGS, epochs=2),
                  device="cpu")  # fmt: skip
    assert {name: lines[1][name] for name in lines[1] if name != "part"} == alone.metrics


def test_a_run_killed_before_it_was_noted_as_finished_is_so_with_resume(world, tmp_path):
    out = tmp_path / "out"
    train(world.hub, world.leaf, out, BRIEF, device="cpu")
    told = read_sealed(out / "run.json")
    (out / "run.json").write_text(json.dumps({**told, "finished": None}))
    train(world.hub, world.leaf, out, BRIEF, device="cpu", resume=True)
    assert read_run(out).finished is not None
    shutil.rmtree(out)
