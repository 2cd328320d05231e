"""Evaluation protocols: from a bridge and memories to figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bridge.artefact import Bridge
from bridge.metrics import Retrieval, retrieval
from bridge.projection import in_shared_space
from features.errors import UserError
from features.memory import Memory

SCORES_AT_A_TIME = 1 << 24  # sorting them takes about twenty times as many bytes


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
    relevance, (query_classes, gallery_classes) = _classes(query, gallery)
    rows = [
        in_shared_space(bridge, memory, trust_encoder=trust_encoder) for memory in (query, gallery)
    ]
    right = gallery_classes.bincount(minlength=int(query_classes.max()) + 1)[query_classes]
    return CrossModalRetrieval(
        query=query.modality,
        gallery=gallery.modality,
        relevance=relevance,
        forward=retrieval(_blocks(rows[0], rows[1], query_classes, gallery_classes)),
        backward=retrieval(_blocks(rows[1], rows[0], gallery_classes, query_classes)),
        chance=float(right[right > 0].double().mean()) / len(gallery),
    )


def _blocks(
    queries: Tensor, gallery: Tensor, query_classes: Tensor, gallery_classes: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    block = max(1, SCORES_AT_A_TIME // len(gallery))
    for start in range(0, len(queries), block):
        stop = start + block
        scores = queries[start:stop] @ gallery.T
        yield scores.cpu(), query_classes[start:stop, None] == gallery_classes[None, :]


def _classes(query: Memory, gallery: Memory) -> tuple[str, tuple[Tensor, Tensor]]:
    if query.labels is not None and gallery.labels is not None:
        relevance, columns = "labels", (list(query.labels), list(gallery.labels))
    else:
        relevance, columns = "ids", (list(query.ids), list(gallery.ids))
    number = {name: i for i, name in enumerate(dict.fromkeys(columns[0] + columns[1]))}
    classes = tuple(torch.tensor([number[name] for name in column]) for column in columns)
    shared = len(set(columns[0]) & set(columns[1]))
    if not shared:
        without = " and ".join(str(m.path) for m in (query, gallery) if m.labels is None)
        raise UserError(
            f"no {relevance} of {query.path} ({columns[0][0]}, ...) occur in {gallery.path} "
            f"({columns[1][0]}, ...), so no answer would be right: extract "
            + (f"{without} with --label-column" if without else "both with the same labels")
        )
    return relevance, (classes[0], classes[1])
