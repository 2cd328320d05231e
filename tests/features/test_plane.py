"""Planes of embeddings, against the singular value decomposition and what they must keep."""

from __future__ import annotations

import numpy as np
import pytest

from features import plane as module
from features.errors import UserError
from features.plane import plane
from tests.features.helpers import unit_rows


@pytest.mark.parametrize("rows", [7, 64])
def test_pca_is_the_singular_value_decomposition(monkeypatch, rows):
    monkeypatch.setattr(module, "_ROWS", rows)
    embeddings = unit_rows(50, 6).astype(np.float32)
    centred = embeddings.astype(np.float64) - embeddings.astype(np.float64).mean(axis=0)
    left, scale, axes = np.linalg.svd(centred, full_matrices=False)
    found = plane(embeddings)
    assert (found.shape, found.dtype) == ((50, 2), np.float32)
    for axis in range(2):
        sign = np.sign(axes[axis][np.abs(axes[axis]).argmax()])
        np.testing.assert_allclose(found[:, axis], sign * left[:, axis] * scale[axis], atol=1e-6)


def test_float16_one_row_and_one_dimension_have_a_plane():
    assert plane(unit_rows(1, 5).astype(np.float16)).tolist() == [[0, 0]]
    narrow = plane(np.array([[1.0], [-1.0], [1.0]], dtype=np.float32))
    np.testing.assert_allclose(narrow, [[2 / 3, 0], [-4 / 3, 0], [2 / 3, 0]], atol=1e-6)


@pytest.mark.slow  # compiles for seconds
def test_umap_keeps_clusters_apart_and_is_the_same_again():
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    centres = np.eye(8)[[0, 1]].repeat(12, axis=0)
    rows = centres + 0.05 * rng.normal(size=(24, 8))
    found = plane(rows.astype(np.float32), "umap", seed=3)
    means = found[:12].mean(axis=0), found[12:].mean(axis=0)
    spread = max(found[:12].std(), found[12:].std(axis=0).max())
    assert np.linalg.norm(means[0] - means[1]) > spread
    np.testing.assert_array_equal(found, plane(rows.astype(np.float32), "umap", seed=3))


def test_what_cannot_be_is_a_sentence(monkeypatch):
    with pytest.raises(UserError, match="no projection 'tsne': choose pca or umap"):
        plane(unit_rows(9, 4), "tsne")
    pytest.importorskip("umap")
    with pytest.raises(UserError, match="cannot lay out 3 items, 4 are the least: choose pca"):
        plane(unit_rows(3, 4), "umap")
    monkeypatch.setattr("features.extras.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'the package umap: pip install "mcr-bridge\[umap\]"'):
        plane(unit_rows(9, 4), "umap")
