"""`mcr compare`: figures of several bridges side by side, and how sure their differences are."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from bridge.artefact import load
from bridge.evaluation.comparison import Comparison, compare_retrieval
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.cli.conftest import NUMBERS, SMALL, answer, done, mcr
from tests.cli.refusals import refused


@pytest.fixture(scope="module")
def bridges(workshop, tmp_path_factory) -> list[Path]:
    """The workshop's, and two more between the same spaces."""
    folder = tmp_path_factory.mktemp("bridges")
    made = [workshop.sound_bridge]
    for seed in (1, 2):
        made.append(folder / f"seed-{seed}")
        done(
            "train", "--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"),
            "-o", made[-1], *SMALL, "--seed", seed,
        )  # fmt: skip
    return made


def compare(workshop, *bridges: Path) -> tuple[object, ...]:
    return (
        "compare", *bridges, "-q", workshop.memory("sounds"), "-g", workshop.memory("images"),
        "--device", "cpu",
    )  # fmt: skip


def expected(workshop, bridges: list[Path], **settings: int) -> Comparison:
    return compare_retrieval(
        [load(one, device="cpu") for one in bridges],
        Memory(workshop.memory("sounds")),
        Memory(workshop.memory("images")),
        **settings,
    )


def test_a_line_a_bridge_and_a_line_a_difference(workshop, bridges):
    result = done(*compare(workshop, *bridges), "--resamples", 500, "--seed", 7)
    known = expected(workshop, bridges, resamples=500, seed=7)
    header, *lines = result.stdout.splitlines()
    assert re.split(r"\s{2,}", header.strip()) == [
        "R@1", "mAP", "audio -> image: R@1", "mAP", "image -> audio: R@1", "mAP",
    ]  # fmt: skip
    for path, line, one in zip(bridges, lines, known.bridges, strict=False):
        figures = [one.mean, one.forward, one.backward]
        assert line.split() == [
            str(path),
            *(f"{f:.3f}" for w in figures for f in (w.recall[1], w.mean_average_precision)),
        ]
    told = []
    for path, one in list(zip(bridges, known.bridges, strict=True))[1:]:
        mean = one.difference.mean
        r1, precision = (
            f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], p {d.p_value:.2g}"
            for d in (mean.recall[1], mean.mean_average_precision)
        )
        told.append(f"{path} - {bridges[0]}: R@1 {r1}; mAP {precision}")
    assert lines[len(bridges) :] == [
        *told,
        f"right by labels; R@1 of chance {known.chance:.4f}; "
        f"500 resamples of {len(NUMBERS)} classes",
    ]
    assert "evaluate" in result.stderr
    assert "resample" in result.stderr


def test_all_of_it_in_json(workshop, bridges):
    told = answer(*compare(workshop, *bridges[:2]), "--resamples", 200)
    known = asdict(expected(workshop, bridges[:2], resamples=200))
    for path, one, other in zip(bridges, told["bridges"], known["bridges"], strict=False):
        assert one["bridge"] == str(path)
        assert one["fingerprint"] == load(path).fingerprint
        assert one["forward"]["recall"]["10"] == other["forward"]["recall"][10]
        assert one["mean"]["mean_average_precision"] == other["mean"]["mean_average_precision"]
    first, second = told["bridges"]
    assert first["difference"] is None
    for which in ("mean", "forward", "backward"):
        difference = known["bridges"][1]["difference"][which]
        assert second["difference"][which] == {
            "recall": {"1": difference["recall"][1]},
            "mean_average_precision": difference["mean_average_precision"],
        }
    assert set(second["difference"]["mean"]["recall"]["1"]) == {"value", "low", "high", "p_value"}
    assert {name: told[name] for name in ("resampled", "units", "resamples", "seed")} == {
        "resampled": "classes", "units": [len(NUMBERS)] * 2, "resamples": 200, "seed": 0,
    }  # fmt: skip


def some_texts(memory: Path, out: Path, rows: int) -> Path:
    """The first rows of a memory."""
    whole = Memory(memory)
    save_memory(
        out, whole.embeddings[:rows], whole.ids[:rows], space=whole.space, modality="text",
        labels=whole.labels[:rows], encoder=whole.header.encoder,
    )  # fmt: skip
    return out


def test_few_queries_of_one_modality(workshop, bridges, tmp_path):
    result = done(
        "compare", *bridges[:2], "--resamples", 50,
        "-q", some_texts(workshop.memory("text-hears"), tmp_path / "q.h5", 8),
        "-g", some_texts(workshop.memory("text-sees"), tmp_path / "g.h5", 6),
    )  # fmt: skip
    assert "query -> gallery: R@1" in result.stdout
    assert "gallery -> query: R@1" in result.stdout
    assert result.stdout.endswith("; 50 resamples of 6 and 6 queries\n")
    assert "note: there are only 6 queries to draw from, fewer than 20: take " in result.stderr
    assert "2 queries have no right item in the other memory and are left out" in result.stderr


@pytest.mark.parametrize("resamples", [0, 38])
def test_too_few_resamples_are_refused(workshop, bridges, resamples):
    told = refused(*compare(workshop, *bridges[:2]), "--resamples", resamples)
    assert told == (
        f"resamples is {resamples} but a 95 % interval needs at least 39: give more, such as 10000"
    )


def test_one_bridge_is_refused(workshop, bridges):
    told = refused(*compare(workshop, bridges[0]))
    assert told.startswith("a comparison takes two bridges or more but 1 was given: give another")


def test_a_copy_of_a_bridge_is_refused(workshop, bridges, tmp_path):
    copy = shutil.copytree(bridges[0], tmp_path / "copy")
    told = refused(*compare(workshop, *bridges, copy))
    assert "have the same weights (" in told
    assert told.endswith("so there is nothing to compare: give each bridge once")


def test_a_bridge_between_other_spaces_is_refused(workshop, bridges):
    told = refused(*compare(workshop, bridges[0], workshop.shape_bridge))
    assert "shape-bridge joins " in told
    assert "not 'hears'" in told


def test_projected_memories_are_refused(workshop, bridges):
    told = refused(
        "compare", *bridges, "-q", workshop.memory("sounds"), "-g", workshop.memory("shared")
    )
    assert told == (
        f"{workshop.memory('shared')} is projected by one bridge, sound-bridge, so others cannot "
        "be compared on it: give the memory that it came from"
    )


@pytest.mark.parametrize("wrong", [("--seed", "-1"), ("--resamples", "many"), ()])
def test_wrong_usage_leaves_with_2(workshop, bridges, wrong):
    arguments = compare(workshop, *(bridges[:2] if wrong else ()))
    result = mcr(*arguments, *wrong)
    assert result.exit_code == 2
    assert "Usage: mcr compare" in result.stderr
