"""`mcr ablate`: the table of what each part of C-MCR is worth."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bridge.artefact import load
from bridge.training import run
from cli import progress
from features.sealed import read_sealed
from tests.bridge.conftest import InterruptAfter
from tests.cli.conftest import NARROW, TINY, answer, done, mcr
from tests.cli.refusals import file, refused

VARIANTS = [
    "full", "without noise", "without pseudo pairs", "without inter hub", "without inter leaf",
    "without intra",
]  # fmt: skip


def ablate(
    workshop, out: Path, *more: object, leaves=("sounds", "images"), sizes=TINY
) -> tuple[object, ...]:
    return (
        "ablate", "--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"),
        *(word for name in leaves for word in ("--leaf", workshop.memory(name))),
        "-q", workshop.memory("sounds"), "-g", workshop.memory("images"),
        "-o", out, "--seeds", 2, *sizes, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def out(workshop, tmp_path_factory) -> Path:
    """A finished ablation's folder."""
    folder = tmp_path_factory.mktemp("ablation") / "out"
    done(*ablate(workshop, folder))
    return folder


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_a_line_a_variant_with_spread_and_the_difference_to_full(workshop, out):
    result = done(*ablate(workshop, out))
    known = json.loads((out / "ablation.json").read_text())
    header, *lines = result.stdout.splitlines()
    assert cells(header) == ["R@1", "mAP", "R@1 - full", "mAP - full"]
    assert [one["name"] for one in known["variants"]] == VARIANTS
    for line, one in zip(lines, known["variants"], strict=False):
        figures = [one["recall"]["1"], one["mean_average_precision"]]
        spreads = [f"{f['mean']:.3f} ± {f['deviation']:.3f}" for f in figures]
        differences = [
            f"{f['difference']:+.3f} ± {f['standard_error']:.3f}"
            for f in figures
            if one["name"] != "full"
        ]
        assert cells(line) == [one["name"], *spreads, *differences]
    assert lines[len(VARIANTS) :] == [
        "means of audio -> image and back over 2 seeds (0 to 1) ± standard deviation; differences "
        "± standard error, paired by seed",
        f"right by labels; R@1 of chance {known['chance']:.4f}",
    ]


def test_all_of_it_in_json(workshop, out):
    told = answer(*ablate(workshop, out))
    assert told == read_sealed(out / "ablation.json")
    assert told["seeds"] == [0, 1]
    (one,) = [run for run in told["variants"][1]["runs"] if run["seed"] == 1]
    bridge = load(out / one["bridge"])
    assert (one["bridge"], one["fingerprint"]) == ("without-noise-seed1", bridge.fingerprint)
    assert (bridge.settings.noise_variance, bridge.settings.seed) == (0, 1)


def test_the_published_recipe_is_what_settings_begin_with(workshop, tmp_path):
    config = file(tmp_path / "settings.toml", "epochs = 9\nintra_weight = 0.5\nseed = 7\n")
    told = answer(*ablate(workshop, tmp_path / "out", "-c", config, "--noise-variance", "0.01"))
    settings = told["settings"]
    assert (settings["method"], settings["objective"]) == ("projectors", "cmcr")
    assert (settings["epochs"], settings["intra_weight"], settings["seed"]) == (2, 0.5, 7)
    assert settings["noise_variance"] == 0.01
    assert told["seeds"] == [7, 8]


def test_stopped_and_run_again_it_continues(workshop, tmp_path, out, monkeypatch):
    class Interrupt(InterruptAfter):
        """After epochs of all trainings, which have names of their own."""

        def task(self, description, total, **more):
            return super().task(description.rpartition(": ")[2], total, **more)

    with monkeypatch.context() as patched:
        patched.setattr(run, "CHECKPOINT_SECONDS", -1.0)
        patched.setattr(progress, "BarProgress", lambda: Interrupt(4))
        result = mcr(*ablate(workshop, tmp_path / "out"))
    stopped = "stopped: run the same command again to continue\n"
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", stopped)
    first = tmp_path / "out" / "full-seed0" / "bridge.safetensors"
    before = first.stat().st_mtime_ns
    again = done(*ablate(workshop, tmp_path / "out"))
    assert "full, seed 0" not in again.stderr
    assert "without noise, seed 0 (2 of 12): train" in again.stderr
    assert first.stat().st_mtime_ns == before
    assert again.stdout == done(*ablate(workshop, out)).stdout
    figures = [json.loads((o / "ablation.json").read_text()) for o in (out, tmp_path / "out")]
    assert figures[0] == figures[1]


def test_a_variant_that_is_full_is_left_out_and_said_so(workshop, tmp_path):
    result = done(*ablate(workshop, tmp_path / "out", leaves=["images"]))
    lines = result.stdout.splitlines()
    names = [name for name in VARIANTS if name != "without inter leaf"]
    assert [cells(line)[0] for line in lines[1 : 1 + len(names)]] == names
    assert lines[1 + len(names)] == (
        "without inter leaf is left out: it is the same as full, as only sees has a leaf memory"
    )


def test_other_settings_in_the_same_folder_are_refused(workshop, out):
    told = refused(*ablate(workshop, out, "--dimension", 4))
    assert told == (
        f"{out} holds an ablation with other settings (dimension was 8 and is 4): give the same "
        "to continue it, or choose another output"
    )


def test_one_seed_is_refused(workshop, tmp_path):
    told = refused(*ablate(workshop, tmp_path / "out", "--seeds", 1))
    assert told == "seeds is 1 but a spread needs at least 2: give more, such as 5"


@pytest.mark.parametrize("option", [("--method", "ridge"), ("--objective", "distil")])
def test_other_methods_and_objectives_are_refused(workshop, tmp_path, option):
    told = refused(*ablate(workshop, tmp_path / "out", *option, sizes=NARROW))
    assert f"these settings make a bridge by {option[1]}: leave the method" in told


def test_a_memory_of_another_space_is_refused(workshop, tmp_path):
    told = refused(*ablate(workshop, tmp_path / "out", "-q", workshop.memory("clouds")))
    assert "holds embeddings of shapes (8-d) but the hub joins hears (10-d) and sees (12-d)" in told
    told = refused(*ablate(workshop, tmp_path / "out", "-g", workshop.memory("shared")))
    assert "holds embeddings of sound-bridge (8-d) but the hub joins" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [("--seeds", "many"), ("--noise", "0"), ()])
def test_wrong_usage_leaves_with_2(workshop, tmp_path, wrong):
    arguments = ablate(workshop, tmp_path / "out") if wrong else ("ablate", "-o", tmp_path / "out")
    result = mcr(*arguments, *wrong)
    assert result.exit_code == 2
    assert "Usage: mcr ablate" in result.stderr


def test_help_says_that_it_continues():
    told = " ".join(done("ablate", "--help").stdout.split())
    assert "Can be stopped at any moment: the same command continues." in told
