"""Matrices and histograms of cosines, against loops."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.pictures.canvas import COLUMN, Style, rendered
from bridge.pictures.similarity import (
    area_under_curve,
    histogram_figure,
    histograms,
    similarity,
    similarity_figure,
)
from features.errors import UserError
from tests.bridge.conftest import CLASSES, projected_memory, write_items
from tests.bridge.pictures.words import check_words


@pytest.fixture
def known(made, tmp_path):
    """Queries and a gallery in the shared space, with cosines that can be seen."""
    query = projected_memory(
        tmp_path / "q.h5", made, [(1, 0), (0, 1), (1, 0)], ["a", "b", "c"],
        labels=["one", "two", "none"],
    )  # fmt: skip
    gallery = projected_memory(
        tmp_path / "g.h5", made, [(0, 1), (1, 0), (1, 1)], ["x", "y", "z"],
        modality="image", labels=["two", "one", "one"],
    )  # fmt: skip
    return query, gallery


def test_matrices_take_the_first_item_of_each_shared_class(made, known):
    data = similarity(*known, bridge=made)
    assert data.names == ["one", "two"]
    ((title, matrix),) = data.matrices
    assert title == "after the bridge"
    np.testing.assert_allclose(matrix, np.eye(2), atol=1e-3)


def test_matrices_of_a_bridge_have_a_before_and_say_what_was_drawn(world, made):
    data = similarity(*world.test, bridge=made, items=5)
    assert [title for title, _ in data.matrices] == ["before the bridge", "after the bridge"]
    assert all(matrix.shape == (5, 5) for _, matrix in data.matrices)
    assert f"5 of {CLASSES} shared classes, drawn with seed 0" in data.notes


def test_counts_are_those_of_a_loop(world, made):
    query, gallery = world.test
    data = histograms(query, gallery, bridge=made, bins=12)
    after = data.stages[1]
    left = made.project(query.tensor(), "left", "audio").double().numpy()
    right = made.project(gallery.tensor(), "right", "image").double().numpy()
    counts = {True: np.zeros(12, int), False: np.zeros(12, int)}
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            score = float(one @ other)
            place = max(b for b in range(12) if after.edges[b] <= score)
            counts[query.labels[i] == gallery.labels[j]][place] += 1
    assert after.matches.tolist() == counts[True].tolist()
    assert after.others.tolist() == counts[False].tolist()
    assert after.matches.sum() == 40 * 40 // CLASSES
    assert after.auc > 0.9


def test_items_that_match_what_was_drawn_are_drawn_first(made, tmp_path):
    query = write_items(tmp_path / "q.h5", "left", "audio", range(400, 440),
                        ids=[f"i{i}" for i in range(40)], labels=False)  # fmt: skip
    gallery = write_items(tmp_path / "g.h5", "right", "image", range(400, 440),
                          ids=[f"i{i}" for i in range(40)], labels=False)  # fmt: skip
    data = histograms(query, gallery, bridge=made, items=6)
    assert [int(one.matches.sum()) for one in data.stages] == [6, 6]
    assert "audio and image, right by ids" in data.notes
    assert "6 of 40 queries and 6 of 40 gallery items, drawn with seed 0" in data.notes


def test_the_area_under_the_curve_is_the_chance_to_be_more_similar():
    rng = np.random.default_rng(0)
    matches, others = rng.integers(0, 6, 30) / 5, rng.integers(0, 5, 50) / 5
    naive = np.mean([(m > o) + (m == o) / 2 for m in matches for o in others])
    assert area_under_curve(matches, others) == pytest.approx(naive)
    assert np.isnan(area_under_curve(matches, others[:0]))


@pytest.mark.parametrize("width", [COLUMN, 6.9])
def test_words_are_apart_and_bytes_are_the_same_again(world, made, width):
    style = Style(width=width)
    matrices = similarity(*world.test, bridge=made)
    words = check_words(similarity_figure(matrices, style), style)
    assert {"audio", "image", "cosine", "class 0"} <= set(words)
    counted = histograms(*world.test, bridge=made)
    words = check_words(histogram_figure(counted, style), style)
    assert "200 matches" in words
    for figure, data in ((similarity_figure, matrices), (histogram_figure, counted)):
        first, second = (rendered(figure(data, style), "svg", style) for _ in range(2))
        assert first == second


def test_mistakes_are_named(world, made, tmp_path):
    query, gallery = world.test
    bare = write_items(tmp_path / "bare.h5", "right", "image", range(4), labels=False)
    for make in (similarity, histograms):
        with pytest.raises(UserError, match="so no answer would be right"):
            make(query, bare, bridge=made)
        with pytest.raises(UserError, match="has no labels: extract with --label-column"):
            make(query, bare, bridge=made, relevance="labels")
        with pytest.raises(UserError, match="name the bridge that joins them"):
            make(query, gallery)
