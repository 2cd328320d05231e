"""Cosines of items that belong together: a matrix of them, and how often each value occurs.

Axes: q queries, g gallery items, n items drawn of each side, b bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from bridge.artefact import Bridge
from bridge.evaluation.retrieval import Relevance, relevance_of
from bridge.pictures.canvas import (
    Style,
    footnote,
    footnote_height,
    ink_of,
    new_figure,
    panels,
    styled,
    words_width,
)
from bridge.pictures.stages import names_of, stages
from features.memories.memory import Memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TICKS = 10


@dataclass(frozen=True)
class Matrices:
    """Cosines of the same items in several stages; row i and column i belong together.

    matrices: each with its title. names: of the items. sides: of the rows and the columns.
    """

    matrices: Sequence[tuple[str, Float[NDArray[Any], "n n"]]]
    names: Sequence[str]
    sides: tuple[str, str]
    notes: Sequence[str] = ()


def similarity(
    query: Memory,
    gallery: Memory,
    *,
    bridge: Bridge | None = None,
    items: int = 40,
    relevance: str = "auto",
    seed: int = 0,
    trust_encoder: bool = False,
) -> Matrices:
    """Cosines of one item of each side for each class (or id) that both memories have.

    items: classes at most, drawn by the seed if there are more; the first item of each is taken.
    Raises UserError if the memories share no class, or do not go together.
    """
    found = relevance_of(query, gallery, relevance)
    columns = [_column(memory, found.kind) for memory in (query, gallery)]
    firsts = [_first_rows(column) for column in columns]
    shared = sorted(firsts[0].keys() & firsts[1].keys())
    order = np.random.default_rng(seed).permutation(len(shared))[:items]
    names = [shared[i] for i in sorted(order)]
    taken = [np.array([rows[name] for name in names]) for rows in firsts]
    staged = stages(bridge, [query, gallery], taken, seed=seed, trust_encoder=trust_encoder)
    what = "classes" if found.kind == "labels" else "ids"
    drawn = f"{len(names):,} of {len(shared):,} shared {what}, drawn with seed {seed}"
    left, right = names_of([query, gallery])
    return Matrices(
        [(stage.name, stage.rows[0] @ stage.rows[1].T) for stage in staged.stages],
        names,
        (left, right),
        [*staged.notes, *([drawn] if len(names) < len(shared) else [])],
    )


def similarity_figure(data: Matrices, style: Style) -> Figure:
    """Matrices side by side on one scale of colours."""
    low = min(float(matrix.min()) for _, matrix in data.matrices)
    high = max(float(matrix.max()) for _, matrix in data.matrices)
    with styled(style):
        wide = len(data.matrices)
        step = -(-len(data.names) // _TICKS)
        places = list(range(0, len(data.names), step))
        names = [_short(data.names[i]) for i in places]
        tall = words_width(names, style.small)
        side = (style.width - tall - 0.9) / wide  # less the names, and the scale at the right
        figure = new_figure(style, side + tall + 0.6 + footnote_height(data.notes, style))
        axes = panels(figure, wide)
        for axis, (title, matrix) in zip(axes, data.matrices, strict=True):
            drawn = axis.imshow(matrix, cmap=style.theme.colours, vmin=low, vmax=high)
            axis.set_title(title, loc="left")
            axis.set_xticks(places, names, rotation=90)
            axis.set_yticks(places, names if axis is axes[0] else [""] * len(names))
            axis.set_xlabel(data.sides[1], color=ink_of(data.sides[1].split(" (")[0], style))
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
        axes[0].set_ylabel(data.sides[0], color=ink_of(data.sides[0].split(" (")[0], style))
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02, label="cosine")
        bar.outline.set_visible(False)
        footnote(figure, data.notes, style)
    return figure


@dataclass(frozen=True)
class Counts:
    """How many cosines of pairs that belong together, and of others, lie in each bin.

    auc: the chance that a match is more similar than another pair, ties counted half.
    """

    title: str
    edges: Float[NDArray[Any], " b+1"]
    matches: Int[NDArray[Any], " b"]
    others: Int[NDArray[Any], " b"]
    auc: float


@dataclass(frozen=True)
class Histograms:
    """Counts of each stage, and what a reader must know."""

    stages: Sequence[Counts]
    sides: tuple[str, str]
    notes: Sequence[str] = ()


def histograms(
    query: Memory,
    gallery: Memory,
    *,
    bridge: Bridge | None = None,
    items: int = 2000,
    bins: int = 60,
    relevance: str = "auto",
    seed: int = 0,
    trust_encoder: bool = False,
) -> Histograms:
    """Cosines of matches and of all other pairs, before and after the bridge.

    Items match that have the same label (or id). items: of each memory at most, drawn by the
    seed, of the gallery those first that match a query that was drawn.
    Raises UserError if nothing matches, or the memories do not go together.
    """
    found = relevance_of(query, gallery, relevance)
    taken = _drawn_matches(found, items, seed)
    staged = stages(bridge, [query, gallery], taken, seed=seed, trust_encoder=trust_encoder)
    classes = (found.query.numpy()[taken[0]], found.gallery.numpy()[taken[1]])
    right = classes[0][:, None] == classes[1][None, :]
    scores = [stage.rows[0] @ stage.rows[1].T for stage in staged.stages]
    low, high = (float(end([end(one) for one in scores])) for end in (np.min, np.max))
    edges = np.linspace(low, high + 1e-9, bins + 1)
    counted = [
        _counts(stage.name, one, right, edges)
        for stage, one in zip(staged.stages, scores, strict=True)
    ]
    names = names_of([query, gallery])
    notes = [f"{names[0]} and {names[1]}, right by {found.kind}", *staged.notes]
    if any(len(rows) < len(memory) for rows, memory in zip(taken, (query, gallery), strict=True)):
        notes.append(
            f"{len(taken[0]):,} of {len(query):,} queries and {len(taken[1]):,} of "
            f"{len(gallery):,} gallery items, drawn with seed {seed}"
        )
    return Histograms(counted, (names[0], names[1]), notes)


def histogram_figure(data: Histograms, style: Style) -> Figure:
    """One panel a stage; areas are shares of the matches, and of the other pairs."""
    with styled(style):
        tall = style.width / max(2.2, len(data.stages) * 1.25)
        figure = new_figure(style, max(tall, 1.6) + 0.2 + footnote_height(data.notes, style))
        axes = panels(figure, len(data.stages), sharex=True, sharey=True)
        for axis, counts in zip(axes, data.stages, strict=True):
            _draw_counts(axis, counts, style)
            axis.set_xlabel("cosine")
        highest = max(
            float((values / max(1, values.sum())).max())
            for counts in data.stages
            for values in (counts.matches, counts.others)
        )
        axes[0].set_ylim(0, 1.05 * highest)
        axes[0].set_ylabel("share of pairs in a bin")
        footnote(figure, data.notes, style)
    return figure


def _draw_counts(axis: Axes, counts: Counts, style: Style) -> None:
    theme = style.theme
    for values, colour, alpha in (
        (counts.others, theme.muted, 0.35),
        (counts.matches, theme.right, 0.45),
    ):
        shares = values / max(1, values.sum())
        axis.stairs(shares, counts.edges, fill=True, color=colour, alpha=alpha, linewidth=0)
        axis.stairs(shares, counts.edges, color=colour, linewidth=1.0)
    axis.set_title(counts.title, loc="left")
    axis.locator_params(axis="x", nbins=4)
    words = (
        (f"{int(counts.matches.sum()):,} matches", theme.right),
        (f"{int(counts.others.sum()):,} others", theme.muted),
        (f"AUC {counts.auc:.3f}", theme.ink),
    )
    for line, (told, colour) in enumerate(words):
        axis.annotate(
            told, (0, 1), xycoords="axes fraction", xytext=(4, -3 - 1.3 * style.font * line),
            textcoords="offset points", va="top", color=colour,
        )  # fmt: skip


def _counts(
    title: str,
    scores: Float[NDArray[Any], "q g"],
    right: NDArray[np.bool_],
    edges: Float[NDArray[Any], " b+1"],
) -> Counts:
    matches, others = scores[right], scores[~right]
    return Counts(
        title,
        edges,
        np.histogram(matches, edges)[0],
        np.histogram(others, edges)[0],
        area_under_curve(matches, others),
    )


def area_under_curve(
    matches: Float[NDArray[Any], " m"], others: Float[NDArray[Any], " n"]
) -> float:
    """The chance that a match scores higher than another pair; ties count half.

    >>> area_under_curve(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    if not len(matches) or not len(others):
        return float("nan")
    ordered = np.sort(others)
    below = np.searchsorted(ordered, matches, side="left")
    upto = np.searchsorted(ordered, matches, side="right")
    return float((below + upto).mean() / 2 / len(others))


def _drawn_matches(
    found: Relevance, items: int, seed: int
) -> tuple[Int[NDArray[Any], " n"], Int[NDArray[Any], " m"]]:
    rng = np.random.default_rng(seed)
    query, gallery = found.query.numpy(), found.gallery.numpy()
    answerable = np.flatnonzero(np.isin(query, gallery))
    taken = rng.permutation(answerable)[:items]
    order = rng.permutation(len(gallery))
    wanted = np.isin(gallery[order], query[taken])
    first = np.concatenate([order[wanted], order[~wanted]])[:items]
    return np.sort(taken), np.sort(first)


def _column(memory: Memory, kind: str) -> Sequence[str]:
    return memory.labels if kind == "labels" and memory.labels is not None else memory.ids


def _first_rows(column: Sequence[str]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for row, name in enumerate(column):
        rows.setdefault(name, row)
    return rows


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"
