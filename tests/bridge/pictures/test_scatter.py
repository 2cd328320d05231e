"""Scatter: the stages before and after a bridge, and planes against plain numpy."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from bridge.pictures.canvas import COLUMN, Style, rendered
from bridge.pictures.palette import DARK
from bridge.pictures.scatter import plane, principal_components, scatter, scatter_figure
from bridge.pictures.stages import (
    AFTER,
    BEFORE,
    drawn_rows,
    isometries,
    names_of,
    stages,
    told_draws,
)
from bridge.projection import project_memory
from features.errors import UserError
from tests.bridge.conftest import write_items
from tests.bridge.pictures.words import check_words


@pytest.mark.parametrize("shape", [(60, 7), (5, 12), (40, 1)])
def test_principal_components_are_those_of_a_singular_value_decomposition(shape):
    rows = np.random.default_rng(0).normal(size=shape) @ np.diag(np.linspace(3, 1, shape[1]))
    places, shares = principal_components(rows)
    left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    wanted = (left * values)[:, :2]
    count = min(2, shape[1])
    np.testing.assert_allclose(np.abs(places[:, :count]), np.abs(wanted[:, :count]), atol=1e-8)
    np.testing.assert_allclose(shares[:count], (values**2)[:count] / (values**2).sum(), atol=1e-10)


def test_spaces_are_turned_without_changing_a_cosine():
    turns = isometries({"wide": 12, "narrow": 5}, seed=3)
    assert {name: turn.shape for name, turn in turns.items()} == {
        "wide": (12, 12),
        "narrow": (5, 12),
    }
    rows = np.random.default_rng(1).normal(size=(9, 5))
    turned = rows @ turns["narrow"]
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-10)


def test_stages_are_the_own_space_and_the_shared_one(world, made):
    audio, image = world.test
    taken = [np.arange(5), np.arange(7)]
    found = stages(made, [audio, image], taken)
    assert [stage.name for stage in found.stages] == [BEFORE, AFTER]
    before, after = found.stages
    own = audio.tensor(taken[0]).numpy()
    np.testing.assert_allclose(before.rows[0] @ before.rows[0].T, own @ own.T, atol=1e-5)
    wanted = made.project(image.tensor(taken[1]), "right", "image").numpy()
    np.testing.assert_allclose(after.rows[1], wanted, atol=1e-6)


def test_projected_memories_have_no_before(world, made, tmp_path):
    shared = project_memory(made, world.test[0], tmp_path / "shared.h5")
    found = stages(made, [shared, world.test[1]], [np.arange(4)] * 2)
    assert [stage.name for stage in found.stages] == [AFTER]


def test_large_memories_are_drawn_by_the_seed_and_the_picture_says_so(world, made):
    data = scatter(list(world.test), bridge=made, items=10, seed=4)
    assert [len(cloud.places) for cloud in data.panels[0].clouds] == [10, 10]
    assert "10 of 40 audio items, 10 of 40 image items, drawn with seed 4" in data.notes
    again = scatter(list(world.test), bridge=made, items=10, seed=4)
    np.testing.assert_array_equal(data.panels[1].clouds[1].places, again.panels[1].clouds[1].places)
    rows = drawn_rows(world.test[0], 10, 4)
    assert sorted(set(rows.tolist())) == rows.tolist()
    assert told_draws(world.test, [np.arange(40)] * 2, 0) == []


def test_names_tell_memories_apart(world, tmp_path):
    assert names_of(world.test) == ["audio", "image"]
    assert names_of(world.hub) == ["text (left)", "text (right)"]
    other = write_items(tmp_path / "more.h5", "left", "text", range(3))
    assert names_of([world.hub[0], other]) == ["text (left) text-left", "text (left) more"]


@pytest.mark.parametrize("style", [Style(), Style(DARK, COLUMN)])
def test_the_picture_has_its_words_apart_and_the_same_bytes_again(world, made, style):
    memories = [*world.test, world.hub[0], world.hub[1]]
    data = scatter(memories, bridge=made, items=30)
    words = check_words(scatter_figure(data, style), style)
    assert {"audio", "image", "text (left)", "text (right)", BEFORE, AFTER} <= set(words)
    first, second = (rendered(scatter_figure(data, style), "svg", style) for _ in range(2))
    assert first == second


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap is not installed")
@pytest.mark.slow
def test_umap_repeats_itself_by_its_seed():
    rows = np.random.default_rng(0).normal(size=(40, 6))
    first, axes = plane(rows, method="umap", seed=1)
    second, _ = plane(rows, method="umap", seed=1)
    assert axes == ("UMAP 1", "UMAP 2")
    assert first.shape == (40, 2)
    np.testing.assert_array_equal(first, second)


def test_mistakes_are_named(world, made, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no method 'tsne': choose pca or umap"):
        scatter(world.test, bridge=made, method="tsne")
    with pytest.raises(UserError, match="name the bridge that joins them"):
        scatter(world.test)
    few = write_items(tmp_path / "few.h5", "left", "audio", range(2))
    with pytest.raises(UserError, match="2 items are too few"):
        scatter([few], bridge=made)
    monkeypatch.setattr("features.extras.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'umap: pip install "mcr-bridge\[umap\]"'):
        scatter(world.test, bridge=made, method="umap")
