"""The parts of a report, as HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path

from bridge.config import TrainSettings
from bridge.evaluation.results import Result
from bridge.pictures.gap import gap_figure, gaps
from bridge.pictures.recall import recall_curves, recall_figure
from bridge.pictures.scatter import scatter, scatter_figure
from bridge.pictures.similarity import (
    histogram_figure,
    histograms,
    similarity,
    similarity_figure,
)
from bridge.pictures.training import training_figure
from bridge.report.contents import Contents
from bridge.report.markup import Markup, code, joined, picture, section, table, tag, text

_WEIGHT = "weight of "  # begins the names of a mixture's weights among a bridge's metrics


def trained(contents: Contents) -> Markup:
    """What was trained on what."""
    made = contents.bridge
    spaces = table(
        ["space", "dimensions", "modalities", "encoder"],
        (
            [s.name, s.dimension, ", ".join(s.modalities), s.encoder.get("spec", "not recorded")]
            for s in made.spaces.values()
        ),
    )
    if not made.memories:
        origin = made.origin or "its memories are not recorded"
        return section("What was trained on what", spaces, tag("p", f"Not trained here: {origin}."))
    memories = table(
        ["role", "space", "modality", "items", "memory"],
        (
            [m.role, m.space, m.modality, f"{m.items:,}", code(Path(m.path).name)]
            for m in made.memories
        ),
    )
    return section("What was trained on what", spaces, memories)


def settings(contents: Contents) -> Markup:
    """Settings that this kind of bridge has: what differs from the defaults, and the others."""
    given = contents.bridge.settings
    if contents.bridge.origin is not None:
        return Markup("")
    changed: list[list[object]] = []
    others: list[list[object]] = []
    for one in fields(TrainSettings):
        if given.kind not in one.metadata.get("of", given.kind).split():
            continue
        value, meaning = told(getattr(given, one.name)), one.metadata["help"]
        if getattr(given, one.name) == one.default:
            others.append([one.name, value, meaning])
        else:
            name = tag("strong", one.name, " ●")
            changed.append([name, tag("strong", value), told(one.default), meaning])
    count = len(changed) + len(others)
    words = f"{len(changed)} of {count} settings differ from the defaults and are marked ●."
    head = ["setting", "value", "default", "meaning"]
    summary = tag("summary", f"The {len(others)} others, as they are by default")
    return section(
        "Settings",
        tag("p", words),
        table(head, changed, class_="wide") if changed else "",
        tag("details", summary, table(["setting", "value", "meaning"], others, class_="wide")),
    )


def curves(contents: Contents) -> Markup:
    """The training, and how it ended."""
    metrics = contents.bridge.metrics
    weights = [
        [name.removeprefix(_WEIGHT), f"{value:.3f}"]
        for name, value in metrics.items()
        if name.startswith(_WEIGHT)
    ]
    last = [
        [name.replace("_", " "), told(value)]
        for name, value in metrics.items()
        if not name.startswith(_WEIGHT)
    ]
    parts: list[Markup] = []
    if contents.curves:
        parts.append(
            picture(
                partial(training_figure, contents.curves),
                "Lines of the loss and of held-out scores by epoch; the last values are in the "
                "table.",
                "Mean of each epoch; scores on hub items that were held out.",
            )
        )
    else:
        parts.append(tag("p", "No curves: this kind of bridge is not trained by epochs."))
    if weights:
        parts.append(table(["part of the mixture", "weight"], weights))
    if last:
        parts.append(table(["at the end", "value"], last))
    return section("Training", *parts)


def evaluations(contents: Contents) -> Markup:
    """A table for each result."""
    if not contents.results:
        return section(
            "Evaluations",
            tag("p", "None: measure the bridge with ", code("mcr eval"), ", and report again."),
        )
    parts = []
    for one in contents.results:
        result = one.result
        memories = "; ".join(
            f"{part}: {m['items']:,} {m['modality']} of {m['space']}"
            for part, m in result.memories.items()
        )
        details = [f"{name}: {told(value)}" for name, value in result.settings.items()]
        details += [f"{arrows(name)}: {count:,}" for name, count in result.counts.items()]
        parts += [
            tag("h3", result.protocol, " ", tag("small", memories)),
            _figures(result),
            tag("p", "; ".join(details), ". From ", code(one.source), ".", class_="note"),
        ]
    return section("Evaluations", *parts)


def _figures(result: Result) -> Markup:
    names = list(dict.fromkeys(n for figures in result.figures.values() for n in figures))
    rows = [
        [arrows(part), *(_figure(result, part, name) for name in names)] for part in result.figures
    ]
    head = ["part", *names]
    words = f"In brackets: 95 % intervals of {result.resamples:,} resamples."
    return joined(
        [table(head, rows, class_="figures"), tag("p", words, class_="note")]
        if result.intervals
        else [table(head, rows, class_="figures")]
    )


def _figure(result: Result, part: str, name: str) -> Markup:
    value = result.figures[part].get(name)
    if value is None:
        return text("-")
    ends = result.intervals.get(part, {}).get(name)
    interval = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""
    return joined([f"{value:.3f}", tag("small", interval)])


def pictures(contents: Contents) -> Markup:
    """The queries and the gallery before and after the bridge."""
    if contents.memories is None or contents.recall is None:
        words = (
            "None: give memories of queries and of a gallery with --query and --gallery for "
            "pictures, and for the best and worst queries."
        )
        return section("Pictures", tag("p", words))
    return section("Pictures", *_drawn(contents))


def _drawn(contents: Contents) -> Iterator[Markup]:
    assert contents.memories is not None
    assert contents.recall is not None
    query, gallery = contents.memories
    bridge, seed = contents.bridge, contents.seed
    recall = recall_curves([(bridge.name, contents.recall.result)])
    yield picture(
        partial(recall_figure, recall),
        "Recall at k in both directions, above that of chance; figures are in the tables.",
        "Share of queries with a right item among the first k.",
    )
    counted = histograms(query, gallery, bridge=bridge, items=contents.items, seed=seed)
    areas = " and ".join(f"{one.auc:.3f} {one.title}" for one in counted.stages)
    yield picture(
        partial(histogram_figure, counted),
        "Histograms of cosines of matches and of other pairs.",
        f"Cosines of matches and of other pairs. AUC: {areas}.",
    )
    yield picture(
        partial(similarity_figure, similarity(query, gallery, bridge=bridge, seed=seed)),
        "Matrices of cosines; after a good bridge the diagonal is brightest.",
        "Row and column i belong together.",
    )
    memories = [query, gallery]
    yield picture(
        partial(scatter_figure, scatter(memories, bridge=bridge, items=contents.items, seed=seed)),
        "Items as points of a plane, by principal components.",
        "Principal components of both memories together.",
    )
    measured = gaps(memories, bridge=bridge, seed=seed)
    yield picture(
        partial(gap_figure, measured),
        "; ".join(
            f"{one.left} and {one.right}: gap {told(one.before)} before, {told(one.after)} after"
            for one in measured.pairs
        ),
        "The modality gap: how far the centroids of the modalities are apart.",
    )


def arrows(words: str) -> str:
    """Directions of results, `audio -> image`, as they are printed."""
    return words.replace("->", "→")


def told(value: object) -> str:
    """A setting or figure in words."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
