"""`mcr tune`: the table of trials, and settings that `mcr train` takes."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge import tuning
from bridge.artefact import load
from bridge.config import load_settings
from cli import progress
from features.sealed import sealed_line, unsealed_line
from tests.cli.conftest import NARROW, TINY, answer, done, mcr
from tests.cli.refusals import file, refused


@pytest.fixture(scope="module", autouse=True)
def _small_grid():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tuning, "NOISE_VARIANCES", (0.0, 0.01))
        patched.setattr(tuning, "TEMPERATURES", (0.2,))
        yield


def memories(workshop) -> tuple[object, ...]:
    return (
        "--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"),
        "--leaf", workshop.memory("sounds"), "--leaf", workshop.memory("images"),
    )  # fmt: skip


def tune(workshop, out: Path, *more: object, sizes=TINY) -> tuple[object, ...]:
    return ("tune", *memories(workshop), "-o", out, *sizes, *more)


@pytest.fixture(scope="module")
def told(workshop, tmp_path_factory):
    """What a run says in JSON; the file that it names is there."""
    return answer(*tune(workshop, tmp_path_factory.mktemp("tuned") / "settings.toml"))


def test_the_answer_in_json_holds_every_trial(told):
    names = [trial["name"] for trial in told["trials"]]
    assert sorted(names) == [
        "linear, noise 0, temperature 0.2",
        "linear, noise 0.01, temperature 0.2",
        "mixture",
        "mlp2, noise 0, temperature 0.2",
        "mlp2, noise 0.01, temperature 0.2",
    ]
    costs = [trial["cross_entropy"] for trial in told["trials"]]
    assert costs == sorted(costs)


def test_a_line_a_trial_the_best_first(workshop, tmp_path, told):
    out = tmp_path / "settings.toml"
    lines = done(*tune(workshop, out)).stdout.splitlines()
    assert lines[0].split() == ["cross-entropy", "trial"]
    for line, trial in zip(lines[1:-1], told["trials"], strict=True):
        assert line.split(maxsplit=1) == [f"{trial['cross_entropy']:.4f}", trial["name"]]
    assert lines[-1] == f"{out}: {told['trials'][0]['name']}, the best of 5"
    assert out.read_bytes() == Path(told["out"]).read_bytes()


def test_train_takes_what_was_found(workshop, tmp_path, told):
    done(
        "train", *memories(workshop), "-o", tmp_path / "bridge", "-c", told["out"],
        "--device", "cpu",
    )  # fmt: skip
    settings = load(tmp_path / "bridge", device="cpu").settings
    assert settings == load_settings(Path(told["out"]))
    best = told["trials"][0]["settings"]
    assert (settings.method, settings.epochs, settings.hidden) == (best["method"], 2, 16)
    assert settings.noise_variance == best["noise_variance"]


def test_settings_of_a_file_are_shared_by_all_trials(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "questions", lambda *_, **__: [])
    monkeypatch.setattr(tuning, "stacked_weights", lambda _: ([1.0], 1.0))
    config = file(tmp_path / "config.toml", "hidden = 12\nseed = 4\n")
    said = answer(*tune(workshop, tmp_path / "s.toml", "-c", config, "--seed", 5))
    shared = {(t["settings"]["hidden"], t["settings"]["seed"]) for t in said["trials"]}
    assert shared == {(16, 5)}  # options override the file
    said = answer(
        *tune(workshop, tmp_path / "t.toml", "-c", config, "--epochs", 1, sizes=NARROW)
    )  # fmt: skip
    shared = {(t["settings"]["hidden"], t["settings"]["seed"]) for t in said["trials"]}
    assert shared == {(12, 4)}


def test_stopped_and_run_again_it_continues(workshop, tmp_path, monkeypatch, told):
    class Interrupt:
        """A progress that presses Ctrl-C after two trials."""

        @contextmanager
        def task(self, description, total, **_):  # noqa: ARG002
            left = iter(range(1))

            def advance(count):  # noqa: ARG001
                if next(left, None) is None:
                    raise KeyboardInterrupt

            yield advance

    out, kept = tmp_path / "settings.toml", tmp_path / "settings.toml.trials.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(progress, "BarProgress", Interrupt)
        result = mcr(*tune(workshop, out))
    stopped = "stopped: run the same command again to continue\n"
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", stopped)
    trials = [unsealed_line(line) for line in kept.read_bytes().splitlines(keepends=True)]
    assert len(trials) == 2
    # What was kept is believed.
    believed = [sealed_line([key, 0.5 + i / 4]) for i, (key, _) in enumerate(trials)]
    kept.write_bytes(b"".join(believed))
    again = answer(*tune(workshop, out))
    assert [trial["cross_entropy"] for trial in again["trials"][:2]] == [0.5, 0.75]
    assert {t["name"] for t in again["trials"]} == {t["name"] for t in told["trials"]}
    assert [path.name for path in tmp_path.iterdir()] == ["settings.toml"]


def test_an_output_that_exists_is_refused_or_replaced(workshop, tmp_path, monkeypatch):
    out = file(tmp_path / "settings.toml", "mine")
    assert refused(*tune(workshop, out)) == (
        f"{out} exists: pass --overwrite to replace it, or choose another output"
    )
    assert out.read_text() == "mine"
    monkeypatch.setattr(tuning, "questions", lambda *_, **__: [])
    monkeypatch.setattr(tuning, "stacked_weights", lambda _: ([1.0], 1.0))
    done(*tune(workshop, out, "--overwrite"))
    assert load_settings(out).hidden == 16


@pytest.mark.parametrize("option", [("--method", "cca"), ("--objective", "distil")])
def test_other_methods_and_objectives_are_refused(workshop, tmp_path, option):
    assert refused(*tune(workshop, tmp_path / "s.toml", *option, sizes=NARROW)) == (
        f"settings are tuned for the objective cmcr and for mixtures, not for {option[1]}: leave "
        "--method and --objective out"
    )


def test_too_few_hub_items_are_refused(workshop, tmp_path):
    said = refused(*tune(workshop, tmp_path / "s.toml", "--holdout", 0.9))
    assert "needs 10 of them, 7 are left besides those of --holdout: give more, or choose" in said
    assert not list(tmp_path.iterdir())


def test_help_says_that_it_continues():
    said = " ".join(done("tune", "--help").stdout.split())
    assert "Can be stopped at any moment: the same command continues." in said
