"""Retrieval between two memories, paired or class-aware, in both directions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.artefact import Bridge
from bridge.metrics.retrieval import PerQuery, Retrieval, per_query, summary
from bridge.projection import in_shared_space
from features.errors import UserError
from features.memories.memory import Memory
from features.suggest import unknown

RELEVANCE = ("auto", "labels", "ids")
SCORES_AT_A_TIME = 1 << 24  # sorting them takes about twenty times as many bytes


class LabelsContradictIds(UserWarning):
    """An item of the query memory has another label than the gallery's item of the same id."""


@dataclass(frozen=True)
class CrossModalRetrieval:
    """Retrieval between two memories, in both directions.

    relevance: `labels` where items of one class are right for each other, else `ids`.
    chance: expected R@1 of a random order, in the forward direction.
    """

    query: str
    gallery: str
    relevance: str
    forward: Retrieval
    backward: Retrieval
    chance: float


def evaluate_retrieval(
    bridge: Bridge, query: Memory, gallery: Memory, *, trust_encoder: bool = False
) -> CrossModalRetrieval:
    """Search `gallery` with every item of `query`, and the other way round.

    Items with the same label are right for each other where both memories have labels,
    otherwise items with the same id. Raises UserError if nothing matches.
    """
    relevance = relevance_of(query, gallery)
    forward, backward = search_both_ways(
        bridge, query, gallery, relevance, trust_encoder=trust_encoder
    )
    return CrossModalRetrieval(
        query=query.modality,
        gallery=gallery.modality,
        relevance=relevance.kind,
        forward=summary(forward),
        backward=summary(backward),
        chance=relevance.chance,
    )


@dataclass(frozen=True)
class Relevance:
    """Which items of two memories are right for each other: those of one class.

    kind: `labels` where the classes are the items' labels, else `ids`.
    query, gallery: class of every item, numbered across both memories.
    """

    kind: str
    query: Int[Tensor, " q"]
    gallery: Int[Tensor, " g"]

    @property
    def chance(self) -> float:
        """Expected R@1 of a random order of the gallery."""
        right = self.gallery.bincount(minlength=int(self.query.max()) + 1)[self.query]
        return float(right[right > 0].double().mean()) / len(self.gallery)


def search_both_ways(
    bridge: Bridge,
    query: Memory,
    gallery: Memory,
    relevance: Relevance,
    *,
    trust_encoder: bool = False,
) -> tuple[PerQuery, PerQuery]:
    """Figures of every item of `query`, searching `gallery`, and of the other way round."""
    left, right = (
        in_shared_space(bridge, memory, trust_encoder=trust_encoder) for memory in (query, gallery)
    )
    return search_rows_both_ways(left, right, relevance)


def search_rows_both_ways(
    query: Float[Tensor, "q e"], gallery: Float[Tensor, "g e"], relevance: Relevance
) -> tuple[PerQuery, PerQuery]:
    """Figures of every row of `query`, searching `gallery`, and of the other way round."""
    return (
        per_query(_blocks(query, gallery, relevance.query, relevance.gallery)),
        per_query(_blocks(gallery, query, relevance.gallery, relevance.query)),
    )


def relevance_of(query: Memory, gallery: Memory, by: str = "auto") -> Relevance:
    """By labels where both memories have them, else by ids; or by what `by` says.

    Warns if labels contradict ids that are equal. Raises UserError if none is shared, or labels
    are wanted that are not there.
    """
    if by not in RELEVANCE:
        raise unknown("relevance", by, RELEVANCE)
    unlabelled = [str(one.path) for one in (query, gallery) if one.labels is None]
    if by == "labels" and unlabelled:
        raise UserError(
            f"{' and '.join(unlabelled)} has no labels: extract with --label-column, or choose "
            "--relevance ids"
        )
    if by != "ids" and query.labels is not None and gallery.labels is not None:
        kind, columns = "labels", (list(query.labels), list(gallery.labels))
    else:
        kind, columns = "ids", (list(query.ids), list(gallery.ids))
    number = {name: i for i, name in enumerate(dict.fromkeys(columns[0] + columns[1]))}
    if not set(columns[0]) & set(columns[1]):
        without = " and ".join(str(m.path) for m in (query, gallery) if m.labels is None)
        raise UserError(
            f"no {kind} of {query.path} ({columns[0][0]}, ...) occur in {gallery.path} "
            f"({columns[1][0]}, ...), so no answer would be right: extract "
            + (f"{without} with --label-column" if without else "both with the same labels")
        )
    if kind == "labels":
        _warn_of_contradictions(query, gallery)
    classes = [torch.tensor([number[name] for name in column]) for column in columns]
    return Relevance(kind, classes[0], classes[1])


def _warn_of_contradictions(query: Memory, gallery: Memory) -> None:
    labels = dict(zip(gallery.ids, gallery.labels or (), strict=False))
    wrong = [
        (name, label)
        for name, label in zip(query.ids, query.labels or (), strict=False)
        if labels.get(name, label) != label
    ]
    if wrong:
        name, label = wrong[0]
        warnings.warn(
            f"{len(wrong)} ids are in both {query.path} and {gallery.path} with different labels, "
            f"'{name}' as {label} and {labels[name]}: right is what has the same label; if equal "
            "ids are the same item, extract both with the same label column",
            LabelsContradictIds,
            stacklevel=3,
        )


def _blocks(
    queries: Tensor, gallery: Tensor, query_classes: Tensor, gallery_classes: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    block = max(1, SCORES_AT_A_TIME // len(gallery))
    for start in range(0, len(queries), block):
        stop = start + block
        scores = queries[start:stop] @ gallery.T
        yield scores.cpu(), query_classes[start:stop, None] == gallery_classes[None, :]
