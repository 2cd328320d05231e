"""Items of several memories as points of a plane, before and after the bridge.

The plane is fitted to all memories of a panel together: by principal components, or by UMAP
(McInnes et al., arXiv 1802.03426).

Axes: n items of all memories, d dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from bridge.artefact import Bridge
from bridge.pictures.canvas import (
    MANY_MARKS,
    Style,
    footnote,
    footnote_height,
    new_figure,
    panels,
    styled,
)
from bridge.pictures.palette import MARKS
from bridge.pictures.stages import drawn_rows, names_of, stages, told_draws
from features.errors import UserError
from features.extras import require_package
from features.memories.memory import Memory
from features.space import Modality
from features.suggest import unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METHODS = ("pca", "umap")
_NEIGHBOURS = 15  # of UMAP


@dataclass(frozen=True)
class Cloud:
    """One memory's items in a plane. hollow: another memory of this modality is drawn as well."""

    name: str
    modality: Modality
    places: Float[NDArray[Any], "n 2"]
    hollow: bool = False


@dataclass(frozen=True)
class Panel:
    """One plane. axes: what its directions are called."""

    title: str
    clouds: list[Cloud]
    axes: tuple[str, str]


@dataclass(frozen=True)
class Scatter:
    """Panels, and what a reader must know."""

    panels: list[Panel]
    notes: list[str]


def scatter(
    memories: Sequence[Memory],
    *,
    bridge: Bridge | None = None,
    method: str = "pca",
    items: int = 2000,
    seed: int = 0,
    trust_encoder: bool = False,
) -> Scatter:
    """Where the memories' items lie, before and after the bridge, or in the space they share.

    items: of each memory at most, drawn by the seed. Raises UserError for an unknown method or
    one that is not installed, fewer than three items, and memories that do not go together.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if method == "umap":
        require_package("umap", "--method umap")
    taken = [drawn_rows(memory, items, seed) for memory in memories]
    found = stages(bridge, memories, taken, seed=seed, trust_encoder=trust_encoder)
    total = sum(map(len, taken))
    if total < 3:
        raise UserError(f"{total} items are too few for a plane, three are the least: give more")
    names, seen = names_of(memories), [memory.modality for memory in memories]
    drawn = []
    for stage in found.stages:
        places, axes = plane(np.concatenate(stage.rows), method=method, seed=seed)
        parts = np.split(places, np.cumsum([len(rows) for rows in stage.rows])[:-1])
        clouds = [
            Cloud(names[i], memory.modality, part, memory.modality in seen[:i])
            for i, (memory, part) in enumerate(zip(memories, parts, strict=True))
        ]
        drawn.append(Panel(stage.name, clouds, axes))
    return Scatter(drawn, [*found.notes, *told_draws(memories, taken, seed)])


def plane(
    rows: Float[NDArray[Any], "n d"], *, method: str = "pca", seed: int = 0
) -> tuple[Float[NDArray[Any], "n 2"], tuple[str, str]]:
    """Places of rows in a plane, and what its axes are called."""
    if method == "umap":
        umap = require_package("umap", "--method umap")
        fitted = umap.UMAP(
            n_neighbors=min(_NEIGHBOURS, len(rows) - 1),
            metric="cosine",
            random_state=seed,
            n_jobs=1,  # which a fixed seed needs
        )
        return np.asarray(fitted.fit_transform(rows), dtype=np.float64), ("UMAP 1", "UMAP 2")
    places, shares = principal_components(rows)
    return places, (f"PC 1 ({shares[0]:.0%} of variance)", f"PC 2 ({shares[1]:.0%})")


def principal_components(
    rows: Float[NDArray[Any], "n d"],
) -> tuple[Float[NDArray[Any], "n 2"], tuple[float, float]]:
    """The first two principal components of centred rows, and their shares of the variance.

    A component's sign is such that the largest entry of its direction is positive.
    """
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    first = vectors[:, ::-1][:, :2]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])])
    places = centred @ first
    if places.shape[1] < 2:
        places = np.column_stack([places, np.zeros(len(places))])
    total = max(float(values.sum()), np.finfo(float).tiny)
    shares = [*(values[::-1][:2].clip(0) / total).tolist(), 0.0]
    return places, (shares[0], shares[1])


def scatter_figure(data: Scatter, style: Style) -> Figure:
    """Panels side by side, one name for each memory above them."""
    with styled(style):
        wide = len(data.panels)
        figure = new_figure(
            style, style.width / max(wide, 1.6) + 0.6 + footnote_height(data.notes, style)
        )
        axes = panels(figure, wide)
        for axis, panel in zip(axes, data.panels, strict=True):
            _draw(axis, panel, style)
        handles, labels = axes[0].get_legend_handles_labels()
        fits = max(1, int(style.width * 72 / (max(map(len, labels)) * style.font * 0.6 + 24)))
        legend = figure.legend(
            handles, labels, loc="outside upper left", ncols=min(len(labels), fits),
            handletextpad=0.2, columnspacing=1.2, markerscale=2, borderaxespad=0.2,
        )  # fmt: skip
        for words, cloud in zip(legend.get_texts(), data.panels[0].clouds, strict=True):
            words.set_color(style.theme.line[cloud.modality])
        footnote(figure, data.notes, style)
    return figure


def _draw(axis: Axes, panel: Panel, style: Style) -> None:
    total = sum(len(cloud.places) for cloud in panel.clouds)
    size = float(np.clip(6000 / total, 3, 24))
    for cloud in panel.clouds:
        colour, edge = style.theme.fill[cloud.modality], style.theme.line[cloud.modality]
        axis.scatter(
            cloud.places[:, 0],
            cloud.places[:, 1],
            s=size,
            marker=MARKS[cloud.modality],
            facecolors="none" if cloud.hollow else colour,
            edgecolors=edge,
            linewidths=0.5 if cloud.hollow else 0.15,
            alpha=0.75,
            label=cloud.name,
            rasterized=total > MANY_MARKS,
        )
    axis.set_title(panel.title, loc="left")
    axis.set_xlabel(panel.axes[0])
    axis.set_ylabel(panel.axes[1])
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_box_aspect(1)
