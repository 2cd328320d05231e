"""A recipe that is stopped or killed in the middle of a step: the same command continues."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.recipe.journal import locked
from cli import progress
from tests.bridge.conftest import InterruptAfter
from tests.cli.conftest import done, mcr
from tests.cli.recipes import STEPS, edit, run, write_recipe
from tests.cli.test_stopping import STOPPED, sentences, start, wait_for


def slow_recipe(workshop, folder: Path, source: Path) -> Path:
    """Its first step embeds some thousand sentences in batches of two."""
    folder.mkdir()
    recipe = write_recipe(workshop, folder)
    texts = workshop.files / "texts.csv"
    edit(recipe, f'"{texts}"\nencoder = "{workshop.specs["sees"]}"',
         f'"{source}"\nbatch_size = 2\nencoder = "{workshop.specs["sees"]}"')  # fmt: skip
    edit(recipe, '[extract]\nlabel_column = "number"\n', "")
    return recipe


class StopAfterABatch:
    """A progress that presses Ctrl-C."""

    @contextmanager
    def task(self, description: str, total: int, *, unit: str = "items", done: int = 0):  # noqa: ARG002
        def advance(count: int) -> None:  # noqa: ARG001
            raise KeyboardInterrupt

        yield advance


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_in_an_extraction_goes_on_where_it_was(workshop, tmp_path, how):
    source = sentences(tmp_path, 1000)
    recipe = slow_recipe(workshop, tmp_path / "stopped", source)
    memories = recipe.parent / "out" / "memories"
    process = start("run", recipe, "--only", STEPS[0])
    wait_for(memories / "text-sees.h5.partial" / "journal.jsonl")
    process.send_signal(how)
    _, stderr = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert stderr.splitlines()[-1] == STOPPED
        assert "Traceback" not in stderr
    assert not (memories / "text-sees.h5").exists()
    again = done("run", recipe, "--only", STEPS[0])
    assert "extract/text-sees: continue, it was begun and stopped" in again.stderr
    assert " of 1000 items were done before" in again.stderr
    assert not (memories / "text-sees.h5.partial").exists()
    whole = slow_recipe(workshop, tmp_path / "whole", source)
    run(whole, "--only", STEPS[0])
    other = whole.parent / "out" / "memories" / "text-sees.h5"
    assert (memories / "text-sees.h5").read_bytes() == other.read_bytes()


def test_a_run_that_is_stopped_in_training_continues_to_the_same_weights(
    workshop, tmp_path, monkeypatch
):
    recipe = write_recipe(workshop, tmp_path)
    edit(recipe, "epochs = 2", "epochs = 5")
    run(recipe, "--only", "extract")
    with monkeypatch.context() as patched:
        patched.setattr("bridge.training.run.CHECKPOINT_SECONDS", -1.0)
        patched.setattr(progress, "BarProgress", lambda: InterruptAfter(3))
        assert mcr("run", recipe).exit_code == 130
    folder = tmp_path / "out" / "bridges" / "out"
    assert (folder / "checkpoint.json").exists()
    assert not (folder / "bridge.json").exists()
    told = run(recipe)
    assert [step["action"] for step in told["steps"]] == ["skip"] * 4 + ["continue"] + ["make"] * 3
    stopped = (folder / "bridge.safetensors").read_bytes()
    run(recipe, "--only", "train", "--force")
    assert (folder / "bridge.safetensors").read_bytes() == stopped


def test_changed_settings_after_a_stop_begin_the_step_again(workshop, tmp_path, monkeypatch):
    recipe = slow_recipe(workshop, tmp_path / "stopped", sentences(tmp_path, 40))
    memories = recipe.parent / "out" / "memories"
    with monkeypatch.context() as patched:
        patched.setattr(progress, "BarProgress", StopAfterABatch)
        assert mcr("run", recipe, "--only", STEPS[0]).exit_code == 130
    assert (memories / "text-sees.h5.partial").exists()
    edit(recipe, "batch_size = 2", "batch_size = 64")
    told = run(recipe, "--only", STEPS[0])
    assert [(step["action"], step["why"]) for step in told["steps"]] == [
        ("again", "batch_size is 64, was 2")
    ]
    assert not (memories / "text-sees.h5.partial").exists()


def test_a_kill_between_the_output_and_the_journal_does_no_work_twice(
    workshop, tmp_path, monkeypatch
):
    recipe = write_recipe(workshop, tmp_path)
    memory = tmp_path / "out" / "memories" / "text-sees.h5"
    with monkeypatch.context() as patched:
        calls = []

        def killed(step):
            calls.append(step)
            if len(calls) > 1:  # of the output, after the memory was written
                raise KeyboardInterrupt
            return

        patched.setattr("bridge.recipe.running.output_state", killed)
        assert mcr("run", recipe, "--only", STEPS[0]).exit_code == 130
    before = memory.stat().st_mtime_ns
    told = run(recipe, "--only", STEPS[0])
    assert [step["action"] for step in told["steps"]] == ["keep"]
    assert memory.stat().st_mtime_ns == before
    assert [step["action"] for step in run(recipe, "--only", STEPS[0])["steps"]] == ["skip"]


def test_one_folder_is_written_by_one_run_at_a_time(workshop, tmp_path):
    recipe = write_recipe(workshop, tmp_path)
    with locked(tmp_path / "out"):
        result = mcr("run", recipe)
    assert result.exit_code == 1
    assert "error: another process runs a recipe into out: wait for it, or" in result.stderr
