"""The modality gap: distances between the centroids of modalities, before and after a bridge.

Liang et al., Mind the Gap, arXiv 2203.02053, eq. 1. Distances are of unit embeddings: 0 where two
modalities have one centre, 2 at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import torch

from bridge.artefact import Bridge
from bridge.metrics.spaces import modality_gap
from bridge.pictures.canvas import Style, footnote, footnote_height, new_figure, styled
from bridge.pictures.stages import AFTER, BEFORE, drawn_rows, names_of, stages, told_draws
from features.errors import UserError
from features.memories.memory import Memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Gap:
    """Distance between the centroids of two memories; None where there is no common space."""

    left: str
    right: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Gaps:
    """Every two memories. notes: what a reader must know."""

    pairs: Sequence[Gap]
    notes: Sequence[str] = ()


def gaps(
    memories: Sequence[Memory],
    *,
    bridge: Bridge | None = None,
    items: int = 10_000,
    seed: int = 0,
    trust_encoder: bool = False,
) -> Gaps:
    """Gaps between every two memories, before and after the bridge.

    Before, only memories of one space have one. items: of each memory at most, drawn by the seed.
    Raises UserError for fewer than two memories, and those that do not go together.
    """
    if len(memories) < 2:
        raise UserError(f"a gap is between two memories or more, {len(memories)} is given: add one")
    taken = [drawn_rows(memory, items, seed) for memory in memories]
    found = stages(bridge, memories, taken, seed=seed, trust_encoder=trust_encoder)
    rows = {stage.name: [torch.from_numpy(one) for one in stage.rows] for stage in found.stages}
    own = rows.get(BEFORE) if bridge is not None else rows[found.stages[0].name]
    names = names_of(memories)
    pairs = []
    for i, j in combinations(range(len(memories)), 2):
        same = own is not None and memories[i].space == memories[j].space
        before = modality_gap(own[i], own[j]) if own is not None and same else None
        after = modality_gap(rows[AFTER][i], rows[AFTER][j]) if bridge is not None else None
        pairs.append(Gap(names[i], names[j], before, after))
    return Gaps(pairs, told_draws(memories, taken, seed))


def gap_figure(data: Gaps, style: Style) -> Figure:
    """A row for every two memories, from their gap before to the one after."""
    with styled(style):
        notes = [*_legend(data), *data.notes]
        figure = new_figure(style, 0.5 + 0.27 * len(data.pairs) + footnote_height(notes, style))
        axis = figure.subplots()
        for row, pair in enumerate(data.pairs):
            _draw(axis, row, pair, style)
        axis.set_yticks(
            range(len(data.pairs)), [f"{pair.left} and {pair.right}" for pair in data.pairs]
        )
        axis.set_ylim(len(data.pairs) - 0.5, -0.5)
        known = [v for pair in data.pairs for v in (pair.before, pair.after) if v is not None]
        # One alone is compared with nothing but the scale: that of what gaps there are.
        alone = len(data.pairs) == 1
        axis.set_xlim(0, max([*known, 1.0 if alone else 0.1]) * 1.05)
        if alone:
            axis.plot([0, max(known)], [0, 0], color=style.theme.faint, linewidth=1, zorder=0)
        axis.locator_params(axis="x", nbins=4)
        axis.set_xlabel("distance of centroids")
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
        footnote(figure, notes, style)
    return figure


def _legend(data: Gaps) -> list[str]:
    if all(pair.after is None for pair in data.pairs):
        return []
    if all(pair.before is None for pair in data.pairs):
        return ["after the bridge: there is no common space before"]
    told = ["hollow: before the bridge, filled: after it"]
    if any(pair.before is None for pair in data.pairs):
        told.append("without a hollow mark: no common space before")
    return told


def _draw(axis: Axes, row: int, pair: Gap, style: Style) -> None:
    ink, muted = style.theme.ink, style.theme.muted
    if pair.before is not None and pair.after is not None:
        axis.plot([pair.before, pair.after], [row, row], color=muted, linewidth=1, zorder=1)
    if pair.before is not None:
        face = style.theme.background or "none"
        axis.scatter(pair.before, row, s=22, facecolors=face, edgecolors=ink, zorder=2)
    if pair.after is not None:
        axis.scatter(pair.after, row, s=22, color=ink, zorder=3)
    told = [f"{value:.2f}" for value in (pair.before, pair.after) if value is not None]
    axis.annotate(
        " → ".join(told), (1, row), xycoords=axis.get_yaxis_transform(), xytext=(6, 0),
        textcoords="offset points", va="center", color=ink, annotation_clip=False,
    )  # fmt: skip
