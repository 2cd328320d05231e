"""Embeddings as points of a plane, to look at: PCA, or UMAP where it is installed.

Axes: n embeddings, d dimensions. PCA is linear and takes n rows in blocks; UMAP (McInnes et al.
2018, arXiv 1802.03426) keeps neighbours together, and holds all rows in RAM.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.extras import require_package
from features.suggest import unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROJECTIONS = ("pca", "umap")
_ROWS = 16_384  # at a time
_LEAST = 4  # rows that UMAP can lay out


def plane(embeddings: NDArray[Any], method: str = "pca", *, seed: int = 0) -> NDArray[np.float32]:
    """Coordinates (n, 2) of `embeddings` (n, d), float32, centred on their mean for PCA.

    method: one of PROJECTIONS. seed: of UMAP. Raises UserError for another method, for too few rows
    for UMAP, or without its package.
    """
    if method not in PROJECTIONS:
        raise unknown("projection", method, PROJECTIONS)
    return _pca(embeddings) if method == "pca" else _umap(embeddings, seed)


def _pca(embeddings: NDArray[Any]) -> NDArray[np.float32]:
    n, d = embeddings.shape
    mean = sum(block.sum(axis=0) for block in _blocks(embeddings)) / n
    scatter = np.zeros((d, d))
    for block in _blocks(embeddings):
        scatter += (block - mean).T @ (block - mean)
    _, axes = np.linalg.eigh(scatter)  # ascending
    axes = axes[:, ::-1][:, :2]
    # An axis has two directions: the one in which its largest part is positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points = np.zeros((n, 2), dtype=np.float32)
    start = 0
    for block in _blocks(embeddings):
        points[start : start + len(block), : axes.shape[1]] = (block - mean) @ axes
        start += len(block)
    return points


def _umap(embeddings: NDArray[Any], seed: int) -> NDArray[np.float32]:
    umap = require_package("umap", "the projection umap")
    if len(embeddings) < _LEAST:
        raise UserError(
            f"umap cannot lay out {len(embeddings)} items, {_LEAST} are the least: choose pca"
        )
    rows = np.asarray(embeddings, dtype=np.float32)
    near = min(15, len(rows) - 1)
    made = umap.UMAP(n_neighbors=near, metric="cosine", random_state=seed, n_jobs=1)
    return np.asarray(made.fit_transform(rows), dtype=np.float32)


def _blocks(embeddings: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(embeddings), _ROWS):
        yield np.asarray(embeddings[start : start + _ROWS], dtype=np.float64)
