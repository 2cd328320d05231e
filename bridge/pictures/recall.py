"""Recall curves: the share of queries with a right item among the first k, for every k.

From results of `mcr eval retrieval`, which have the rank of every query's first right item.

Axes: q queries, k cutoffs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from bridge.evaluation.results import Result
from bridge.pictures.canvas import (
    DASHES,
    EndLabel,
    Style,
    ink_of,
    label_ends,
    line_panels,
    styled,
)
from features.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 100  # cutoffs


@dataclass(frozen=True)
class Curve:
    """Recall of one direction of one result, at cutoffs 1, 2, ... source: the query's modality."""

    name: str
    source: str
    recall: Float[NDArray[Any], " k"]


@dataclass(frozen=True)
class Recall:
    """Curves by direction. chance: by direction, in a random order of what is searched."""

    directions: dict[str, list[Curve]]
    chance: dict[str, Float[NDArray[Any], " k"]]


def recall_curves(results: Sequence[tuple[str, Result]]) -> Recall:
    """Curves of retrieval results, each with its name.

    Raises UserError for a result of another protocol, or without samples.
    """
    directions: dict[str, list[Curve]] = {}
    chance: dict[str, Float[NDArray[Any], " k"]] = {}
    for name, result in results:
        if result.protocol != "retrieval" or not result.samples:
            raise UserError(
                f"{name} is a result of {result.protocol}, which has no ranks: give results of "
                "`mcr eval retrieval`"
            )
        items = {part: int(result.memories[part]["items"]) for part in ("query", "gallery")}
        for place, (part, samples) in enumerate(result.samples.items()):
            cutoffs = np.arange(1, min(MOST, items["gallery" if place == 0 else "query"]) + 1)
            ranks = np.asarray(samples.columns["rank"], dtype=np.int64)
            curve = Curve(name, part.split(" -> ")[0], recall_at(ranks, cutoffs))
            directions.setdefault(part, []).append(curve)
            if part not in chance:
                searched = items["gallery" if place == 0 else "query"]
                chance[part] = chance_recall(_right_items(result, part), searched, cutoffs)
    if not directions:
        raise UserError("there is nothing to draw: give results of `mcr eval retrieval`")
    return Recall(directions, chance)


def _right_items(result: Result, part: str) -> float:
    """How many right items a query of this direction has, on average.

    Chance is recorded of the first direction; both have the same pairs.
    """
    first = next(iter(result.samples))
    items = int(result.memories["gallery"]["items"])
    pairs = float(result.settings["chance R@1"]) * items * len(result.samples[first].ids)
    return pairs / max(1, len(result.samples[part].ids))


def recall_at(
    ranks: Int[NDArray[Any], " q"], cutoffs: Int[NDArray[Any], " k"]
) -> Float[NDArray[Any], " k"]:
    """Share of queries whose first right item has at most this rank."""
    below = np.searchsorted(np.sort(ranks), cutoffs, side="right")
    return below / max(1, len(ranks))


def chance_recall(
    right: float, items: int, cutoffs: Int[NDArray[Any], " k"]
) -> Float[NDArray[Any], " k"]:
    """Chance of a right item among the first k in a random order, `right` of the items being right.

    1 - C(items - right, k) / C(items, k), with gamma functions where `right` is a mean.
    """
    missed = []
    for k in cutoffs.tolist():
        if k > items - right:
            missed.append(0.0)
            continue
        terms = (items - right + 1, items - k + 1), (items - right - k + 1, items + 1)
        logarithm = sum(map(lgamma, terms[0])) - sum(map(lgamma, terms[1]))
        missed.append(float(np.exp(logarithm)))
    return 1 - np.array(missed)


def recall_figure(data: Recall, style: Style) -> Figure:
    """A panel for each direction; lines have the colour of what is looked up."""
    with styled(style):
        figure, axes = line_panels(style, len(data.directions), 2.5)
        for axis, (part, curves) in zip(axes, data.directions.items(), strict=True):
            labels = []
            for i, curve in enumerate(curves):
                colour = ink_of(curve.source, style)
                places = np.arange(1, len(curve.recall) + 1)
                dash = DASHES[i % len(DASHES)]
                axis.plot(places, curve.recall, color=colour, linestyle=dash)
                shown = dash if len(curves) > 1 else None
                labels.append(EndLabel(float(curve.recall[-1]), curve.name, colour, shown))
            if part in data.chance:
                random = data.chance[part]
                muted = style.theme.muted
                axis.plot(np.arange(1, len(random) + 1), random, color=muted, linewidth=0.8)
                labels.append(EndLabel(float(random[-1]), "chance", muted))
            axis.set_xscale("log")
            last = max(len(curve.recall) for curve in curves)
            ticks = [k for k in (1, 2, 5, 10, 20, 50, 100) if k <= last]
            axis.set_xticks(ticks, [str(k) for k in ticks])
            axis.minorticks_off()
            axis.set_xlim(1, max(last, 2))
            axis.set_ylim(0, 1.02)
            axis.set_title(part.replace("->", "→"), loc="left")
            axis.set_xlabel("k")
            axis.set_ylabel("recall at k")
            label_ends(axis, labels, style)
    return figure
