"""Gaps: between centroids, and only where there is a common space."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.pictures.canvas import COLUMN, Style, rendered
from bridge.pictures.gap import gap_figure, gaps
from features.errors import UserError
from tests.bridge.pictures.words import check_words


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)))


def test_gaps_are_distances_of_centroids(world, made):
    audio, image = world.test
    text = world.hub[0]
    data = gaps([audio, text, image], bridge=made)
    assert [(pair.left, pair.right) for pair in data.pairs] == [
        ("audio", "text"),
        ("audio", "image"),
        ("text", "image"),
    ]
    same, apart, _ = data.pairs
    own = [memory.tensor().double().numpy() for memory in (audio, text)]
    assert same.before == pytest.approx(distance(*own), abs=1e-6)
    shared = [
        made.project(m.tensor(), m.space, m.modality).double().numpy() for m in (audio, text, image)
    ]
    assert same.after == pytest.approx(distance(shared[0], shared[1]), abs=1e-6)
    assert apart.before is None
    assert apart.after == pytest.approx(distance(shared[0], shared[2]), abs=1e-6)


def test_without_a_bridge_there_is_the_gap_of_the_space(world):
    data = gaps([world.test[0], world.leaf[0], world.hub[0]])
    assert all(pair.after is None and pair.before is not None for pair in data.pairs)
    words = check_words(gap_figure(data, Style()), Style())
    assert "distance of centroids" in words


@pytest.mark.parametrize("width", [COLUMN, 6.9])
def test_words_are_apart_and_figures_are_written(world, made, width):
    style = Style(width=width)
    data = gaps([*world.test, *world.hub], bridge=made, items=30)
    words = check_words(gap_figure(data, style), style)
    pair = data.pairs[1]
    assert f"{pair.before:.2f} → {pair.after:.2f}" in words
    assert "audio and text (left)" in words
    assert any("30 of 40 audio items" in " ".join(word.split()) for word in words)
    first, second = (rendered(gap_figure(data, style), "svg", style) for _ in range(2))
    assert first == second


def test_one_pair_is_drawn_from_nothing_to_its_gap(world, made):
    data = gaps([world.test[0], world.test[1]], bridge=made)
    figure = gap_figure(data, Style())
    words = check_words(figure, Style())
    assert "after the bridge: there is no common space before" in words
    (axis,) = figure.axes
    (line,) = axis.lines
    assert list(line.get_xdata()) == [0, data.pairs[0].after]
    assert axis.get_xlim() == (0, max(1.0, data.pairs[0].after) * 1.05)


def test_a_gap_is_between_two(world):
    with pytest.raises(UserError, match="two memories or more, 1 is given"):
        gaps([world.test[0]])
