"""Settings by cross-validation on hub items: what is tried, kept, written and refused."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from bridge import tuning
from bridge.config import TrainSettings, load_settings
from bridge.methods.mixture import candidates, questions, stacked_weights
from bridge.training.training_set import check_memories, load_rows
from bridge.tuning import Tuning, as_toml, tune
from features.errors import UserError
from features.progress import SILENT
from tests.bridge.conftest import write_items
from tests.bridge.methods.test_mixture import cost_of, question

SETTINGS = TrainSettings(dimension=8, hidden=16, epochs=2, batch=40, holdout=0.2, seed=3)
TRIALS = 2 * 2 * 2 + 1


@pytest.fixture(scope="module", autouse=True)
def _small_grid():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tuning, "NOISE_VARIANCES", (0.0, 0.01))
        patched.setattr(tuning, "TEMPERATURES", (0.02, 0.2))
        yield


class Fits:
    """In place of fitting: counts the trials, and presses Ctrl-C at the one after `most`.

    What is answered depends on the settings alone.
    """

    def __init__(self, monkeypatch, most: int = 1000) -> None:
        self.names: list[str] = []

        def watched(frozen, tried, *, seed, progress):  # noqa: ARG001
            if len(self.names) == most:
                raise KeyboardInterrupt
            self.names.append(" + ".join(tried))
            right = [
                20 * one.noise_variance + one.inter_hub_temperature + 0.1 * len(one.projector)
                for one in tried.values()
            ]
            return [question(*right, seed=seed)]

        monkeypatch.setattr("bridge.tuning.questions", watched)


def tuned(world, out, settings=SETTINGS, **more) -> Tuning:
    return tune(world.hub, world.leaf, out, settings, device="cpu", **more)


@pytest.fixture(scope="module")
def whole(world):
    """An undisturbed run; it wrote `world.folder / "tuned.toml"`."""
    return tuned(world, world.folder / "tuned.toml")


def test_the_trials_are_the_grid_and_a_mixture(whole):
    grid = {trial.name: trial.settings for trial in whole.trials}
    mixed = grid.pop("mixture")
    tried = {
        (s.projector, s.noise_variance, s.inter_hub_temperature, s.inter_leaf_temperature)
        for s in grid.values()
    }
    assert tried == {
        (shape, variance, temperature, temperature)
        for shape in ("mlp2", "linear")
        for variance in (0.0, 0.01)
        for temperature in (0.02, 0.2)
    }
    assert {s.kind for s in grid.values()} == {"cmcr"}
    assert (mixed.kind, len(whole.trials)) == ("mixture", TRIALS)
    linear = grid["linear, noise 0.01, temperature 0.2"]
    assert (linear.projector, linear.noise_variance) == ("linear", 0.01)
    two_layers = grid["mlp2, noise 0, temperature 0.02"]
    assert two_layers == replace(
        SETTINGS, noise_variance=0.0, inter_hub_temperature=0.02, inter_leaf_temperature=0.02
    )


@pytest.mark.parametrize(
    ("shape", "shapes"), [("linear", ["linear"]), ("mlp1", ["mlp1", "linear"])]
)
def test_the_shape_that_is_asked_for_is_tried_beside_the_linear_one(
    world, tmp_path, monkeypatch, shape, shapes
):
    Fits(monkeypatch)
    found = tuned(world, tmp_path / "tuned.toml", replace(SETTINGS, projector=shape))
    grid = [trial for trial in found.trials if trial.name != "mixture"]
    assert {trial.settings.projector for trial in grid} == set(shapes)
    assert all(trial.name.startswith(trial.settings.projector) for trial in grid)
    assert len({trial.settings for trial in grid}) == len(grid) == 4 * len(shapes)


def test_what_all_trials_share_is_kept(whole):
    for trial in whole.trials:
        shared = trial.settings
        assert (shared.dimension, shared.hidden, shared.seed) == (8, 16, 3)
        assert (shared.holdout, shared.batch) == (0.2, 40)


def test_the_best_comes_first_and_is_what_the_file_holds(world, whole):
    costs = [trial.cross_entropy for trial in whole.trials]
    assert costs == sorted(costs)
    assert len(set(costs)) == TRIALS
    assert whole.best is whole.trials[0]
    assert load_settings(world.folder / "tuned.toml") == whole.best.settings
    assert not list(world.folder.glob("tuned.toml.*"))


def test_the_mixture_has_the_noise_and_temperature_of_the_best_of_the_grid(whole):
    best = next(trial for trial in whole.trials if trial.name != "mixture").settings
    (mixed,) = [trial.settings for trial in whole.trials if trial.name == "mixture"]
    assert mixed == replace(
        SETTINGS,
        method="mixture",
        noise_variance=best.noise_variance,
        inter_hub_temperature=best.inter_hub_temperature,
        inter_leaf_temperature=best.inter_leaf_temperature,
    )


def test_a_trial_costs_the_cross_entropy_of_left_out_items(world, whole):
    """At the scale that suits it best, which a fine grid finds as well."""
    frozen = load_rows(
        check_memories(world.hub, world.leaf), holdout=0.2, seed=3, device=torch.device("cpu")
    )
    for name in ("linear, noise 0.01, temperature 0.2", "mlp2, noise 0, temperature 0.02",
                 "mixture"):  # fmt: skip
        (trial,) = [trial for trial in whole.trials if trial.name == name]
        one = {"it": trial.settings}
        tried = candidates(trial.settings, 80) if name == "mixture" else one
        asked = questions(frozen, tried, seed=3, progress=SILENT)
        weights, cost = stacked_weights(asked)
        assert trial.cross_entropy == cost
        scales = [0.1 * 1.05**step for step in range(150)]
        found = min(cost_of(asked, scale * torch.tensor(weights)) for scale in scales)
        assert cost == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize("stops", [(1,), (5,), (8,), (2, 3, 1)])
def test_stopped_and_run_again_nothing_is_fitted_twice(world, tmp_path, monkeypatch, stops):
    Fits(monkeypatch)
    whole = tuned(world, tmp_path / "whole.toml")
    out, fitted = tmp_path / "tuned.toml", []
    for most in stops:
        fits = Fits(monkeypatch, most)
        with pytest.raises(KeyboardInterrupt):
            tuned(world, out)
        assert not out.exists()
        fitted += fits.names
        kept = (tmp_path / "tuned.toml.trials.jsonl").read_text().splitlines()
        assert len(kept) == len(fitted)
    fits = Fits(monkeypatch)
    assert tuned(world, out) == whole
    fitted += fits.names
    assert len(fitted) == len(set(fitted)) == TRIALS
    assert out.read_bytes() == (tmp_path / "whole.toml").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tuned.toml", "whole.toml"]


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_trial_that_was_not_written_to_its_end_is_fitted_again(
    world, tmp_path, monkeypatch, kept
):
    Fits(monkeypatch)
    whole = tuned(world, tmp_path / "whole.toml")
    Fits(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        tuned(world, tmp_path / "tuned.toml")
    path = tmp_path / "tuned.toml.trials.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second[:kept]}")
    again = Fits(monkeypatch, 2)  # and stopped again, with lines after the torn one
    with pytest.raises(KeyboardInterrupt):
        tuned(world, tmp_path / "tuned.toml")
    last = Fits(monkeypatch)
    assert tuned(world, tmp_path / "tuned.toml") == whole
    assert (len(again.names), len(last.names)) == (2, TRIALS - 3)


def test_the_trials_of_other_settings_or_memories_are_others(world, tmp_path, monkeypatch):
    out = tmp_path / "tuned.toml"
    Fits(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        tuned(world, out)
    for settings, leaf in ((replace(SETTINGS, epochs=3), world.leaf), (SETTINGS, world.leaf[:1])):
        fits = Fits(monkeypatch, 1)
        with pytest.raises(KeyboardInterrupt):
            tune(world.hub, leaf, out, settings, device="cpu")
        assert fits.names == ["mlp2, noise 0, temperature 0.02, seed 3"]


class Told:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[int]] = {}

    @contextmanager
    def task(self, description: str, total: int, *, unit: str = "items", done: int = 0):  # noqa: ARG002
        self.tasks[description] = [0, total]

        def advance(count: int) -> None:
            self.tasks[description][0] += count

        yield advance


def test_every_trial_is_a_sign_of_progress(world, tmp_path, monkeypatch):
    Fits(monkeypatch)
    told = Told()
    tuned(world, tmp_path / "tuned.toml", progress=told)
    assert told.tasks == {"tune": [TRIALS, TRIALS]}


def test_an_output_that_exists_is_refused_before_anything_is_fitted(world, tmp_path, monkeypatch):
    path, fits = tmp_path / "tuned.toml", Fits(monkeypatch, 0)
    path.write_text("mine")
    with pytest.raises(UserError, match=rf"^{path} exists: pass --overwrite to replace it, or"):
        tuned(world, path)
    with pytest.raises(UserError, match=rf"^{tmp_path} is a folder but the output is a file: "):
        tuned(world, tmp_path, overwrite=True)
    assert fits.names == []
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("tuned.toml", "mine")]


def test_an_output_can_be_replaced(world, tmp_path, monkeypatch):
    Fits(monkeypatch)
    out = tmp_path / "tuned.toml"
    out.write_text("mine")
    found = tuned(world, out, overwrite=True)
    assert load_settings(out) == found.best.settings


def test_too_few_hub_items_are_a_sentence(tmp_path):
    hub = [write_items(tmp_path / f"{s}.h5", s, "text", range(9)) for s in ("left", "right")]
    with pytest.raises(UserError, match="weighed on left-out hub items and needs 10 of them, 9 "):
        tune(hub, [], tmp_path / "o.toml", replace(SETTINGS, holdout=0.0), device="cpu")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".h5", ".h5"]


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(objective="cwcl"),
        TrainSettings(objective="distil"),
        TrainSettings(method="cca"),
        TrainSettings(method="routing"),
    ],
    ids=lambda settings: settings.kind,
)
def test_other_objectives_and_methods_are_refused(world, tmp_path, settings):
    with pytest.raises(UserError) as caught:
        tuned(world, tmp_path / "tuned.toml", settings)
    assert str(caught.value) == (
        "settings are tuned for the objective cmcr and for mixtures, not for "
        f"{settings.kind}: leave --method and --objective out"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", [SETTINGS, replace(SETTINGS, method="mixture", penalty=2.0)])
def test_a_mixture_s_settings_are_tuned_as_well(world, tmp_path, monkeypatch, start):
    """What only the mixture has is left out of the others."""
    Fits(monkeypatch)
    found = tuned(world, tmp_path / "tuned.toml", start)
    penalties = {trial.name: trial.settings.penalty for trial in found.trials}
    assert penalties.pop("mixture") == start.penalty
    assert set(penalties.values()) == {TrainSettings().penalty}


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(),
        TrainSettings(method="mixture", anchors=9, noise_variance=0.0, penalty=1e-7),
        TrainSettings(projector="mlp1", learning_rate=3e-5, patience=4, batch=64, precision="bf16"),
        TrainSettings(objective="cwcl", cwcl_symmetric=True, cwcl_space='a "b" \\ ü'),
        TrainSettings(method="mixture", projector="linear"),
    ],
    ids=lambda settings: settings.kind,
)
def test_settings_written_as_toml_are_the_same_when_loaded(tmp_path, settings):
    (tmp_path / "s.toml").write_text(as_toml(settings), encoding="utf-8")
    for preset in (None, "best", "published"):
        assert load_settings(tmp_path / "s.toml", preset=preset) == settings


def test_settings_that_are_the_defaults_are_not_written():
    assert as_toml(TrainSettings()) == 'method = "projectors"\n'
    assert as_toml(TrainSettings(epochs=3)) == 'method = "projectors"\nepochs = 3\n'
