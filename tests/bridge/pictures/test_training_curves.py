"""Training curves: what metrics.jsonl says, and what is wrong with it."""

from __future__ import annotations

import json

import pytest

from bridge.pictures.canvas import COLUMN, Style, rendered
from bridge.pictures.training import read_curves, training_figure
from bridge.runs.log import read_log
from features.errors import UserError
from tests.bridge.conftest import SETTINGS
from tests.bridge.pictures.words import check_words


@pytest.fixture
def folder(world, made):
    assert made.metrics
    return world.folder / "made"


def test_curves_are_the_lines_of_the_file(folder):
    (curves,) = read_curves(folder)
    lines = read_log(folder / "metrics.jsonl")
    assert curves.name == "made"
    assert list(curves.epochs) == list(range(1, SETTINGS.epochs + 1))
    assert set(curves.losses) == {"inter_hub", "inter_leaf", "intra", "loss"}
    assert set(curves.held_out) == {"held_out_r1", "held_out_mrr"}
    assert curves.losses["loss"] == [line["loss"] for line in lines]


def test_parts_of_a_mixture_are_curves_of_their_own(tmp_path):
    lines = [
        {"part": part, "epoch": epoch, "loss": 1 / epoch, "seconds": 0.1}
        for part in ("linear", "mlp2")
        for epoch in (1, 2)
    ]
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "metrics.jsonl").write_text(text)
    curves = read_curves(tmp_path)
    assert [one.name for one in curves] == [f"{tmp_path.name}, {p}" for p in ("linear", "mlp2")]
    assert curves[1].losses == {"loss": [1.0, 0.5]}


@pytest.mark.parametrize("width", [COLUMN, 6.9])
@pytest.mark.parametrize("runs", [1, 3])
def test_words_are_apart_and_last_values_are_written(folder, width, runs):
    style = Style(width=width)
    curves = read_curves(folder) * runs
    words = check_words(training_figure(curves, style), style)
    last = curves[0].losses["loss"][-1]
    assert f"{'loss' if runs == 1 else 'made'} {last:.3g}" in words
    assert "epoch" in words
    first, second = (rendered(training_figure(curves, style), "svg", style) for _ in range(2))
    assert first == second


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match=r"has no metrics\.jsonl, which only projectors"):
        read_curves(tmp_path)
    file = tmp_path / "metrics.jsonl"
    file.write_text("")
    with pytest.raises(UserError, match="has no epochs"):
        read_curves(tmp_path)
    for wrong in ('{"epoch": 1, "loss": "much"}', "{", "[1]", '{"loss": 1}', '{"epoch": null}'):
        file.write_text(f'{{"epoch": 1, "loss": 2}}\n{wrong}\n')
        with pytest.raises(UserError, match=r"line 2 of .* is damaged"):
            read_curves(tmp_path)
