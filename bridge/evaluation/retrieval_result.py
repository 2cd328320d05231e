"""Retrieval as a result: figures of both directions with intervals, in a file that compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.artefact import Bridge
from bridge.evaluation.annotated import find_samples
from bridge.evaluation.differences import FEW
from bridge.evaluation.results import Result, Samples, measured
from bridge.evaluation.retrieval import Relevance, relevance_of, search_rows_both_ways
from bridge.evaluation.rows import comparable_rows
from bridge.metrics.retrieval import PerQuery
from features.datasets.annotations import Annotations
from features.errors import UserError
from features.memories.memory import Memory
from features.progress import SILENT, Progress


@dataclass(frozen=True)
class _Sides:
    """Rows of both memories with their names, and which are right for each other."""

    rows: tuple[Float[Tensor, "q e"], Float[Tensor, "g e"]]
    names: tuple[Sequence[str], Sequence[str]]
    relevance: Relevance
    counts: dict[str, int]


def retrieval_result(
    query: Memory,
    gallery: Memory,
    *,
    bridge: Bridge | None = None,
    annotations: Annotations | None = None,
    relevance: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
    trust_encoder: bool = False,
    progress: Progress = SILENT,
) -> Result:
    """Search `gallery` with every item of `query`, and the other way round.

    bridge: None if both memories are of one space.
    annotations: which items are of one sample, and of which class; other items are left out.
    relevance: `labels`, items of a class are right for each other; `ids`, those of one id or
    sample; `auto`, labels where both sides have them. Intervals draw whole classes with their items
    where items are right by label and FEW classes or more are shared, else items.
    Raises UserError if nothing matches, and for memories that cannot be compared.
    """
    rows = comparable_rows(bridge, (query, gallery), trust_encoder=trust_encoder)
    if annotations is None:
        found = relevance_of(query, gallery, relevance)
        sides = _Sides((rows[0], rows[1]), (query.ids, gallery.ids), found, {})
    else:
        sides = _annotated(rows, (query, gallery), annotations, relevance)
    forward, backward = search_rows_both_ways(*sides.rows, sides.relevance)
    there, back = directions(query, gallery)
    counts = dict(sides.counts)
    parts = {}
    for place, (part, one) in enumerate(((there, forward), (back, backward))):
        classes = (sides.relevance.query, sides.relevance.gallery)[place]
        parts[part] = _samples(one, sides.names[place], classes, sides.relevance.kind)
        counts[f"{part}: queries"] = len(one.ranks)
        counts[f"{part}: queries without a right item"] = len(one.answerable) - len(one.ranks)
    return measured(
        "retrieval",
        parts,
        bridge=bridge,
        memories={"query": query, "gallery": gallery},
        settings={"relevance": sides.relevance.kind, "chance R@1": sides.relevance.chance},
        counts=counts,
        annotations={} if annotations is None else {"annotations": annotations},
        resamples=resamples,
        seed=seed,
        progress=progress,
    )


def directions(query: Memory, gallery: Memory) -> tuple[str, str]:
    """What forward and backward are called: by modality, or by role where it is the same."""
    ends: tuple[str, str] = (query.modality, gallery.modality)
    if ends[0] == ends[1]:
        ends = ("query", "gallery")
    return f"{ends[0]} -> {ends[1]}", f"{ends[1]} -> {ends[0]}"


def _annotated(
    rows: Sequence[Tensor], memories: tuple[Memory, Memory], annotations: Annotations, by: str
) -> _Sides:
    """Both sides have a row for each sample that has what relevance asks for."""
    found = find_samples(annotations, memories)
    by_label = by == "labels" or (by == "auto" and any(one.label for one in found.samples))
    kept = [i for i, one in enumerate(found.samples) if one.label is not None or not by_label]
    if not kept:
        raise UserError(
            f"{annotations.path} has no classes, by which items could be right: choose "
            "--relevance ids"
        )
    picked = [[part[i] for i in kept] for part in found.rows]
    if not by_label and any(len(set(part)) < len(part) for part in picked):
        raise UserError(
            f"several samples of {annotations.path} share a file, so that they are no pairs: "
            "choose --relevance labels"
        )
    names = [found.samples[i].id for i in kept]
    keys = [found.samples[i].label for i in kept] if by_label else names
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    classes = torch.tensor([number[key] for key in keys])
    counts = {
        "samples that a memory lacks": found.absent,
        "samples without a class": len(found.samples) - len(kept),
    }
    relevance = Relevance("labels" if by_label else "ids", classes, classes)
    return _Sides((rows[0][picked[0]], rows[1][picked[1]]), (names, names), relevance, counts)


def _samples(
    queries: PerQuery, names: Sequence[str], classes: Int[Tensor, " n"], kind: str
) -> Samples:
    """What was measured of the queries that have a right item."""
    having = queries.answerable.nonzero().flatten().tolist()
    numbers = [str(int(classes[i])) for i in having]
    return Samples(
        ids=[str(names[i]) for i in having],
        columns={"rank": queries.ranks.tolist(), "precision": queries.precisions.tolist()},
        units=numbers if kind == "labels" and len(set(numbers)) >= FEW else None,
    )
