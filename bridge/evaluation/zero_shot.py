"""Zero-shot classification: items against the prompts of classes.

The same protocol classifies pictures and shapes (ImageNet, ModelNet40), sounds (ESC-50), and
sentences or utterances by intent or keyword: items of any modality, classes that text names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.artefact import Bridge
from bridge.evaluation.annotated import find_rows, name_in
from bridge.evaluation.prompts import FIRST, check_first, names_of, prompts
from bridge.evaluation.results import Result, Samples, measured
from bridge.evaluation.rows import comparable_rows
from bridge.metrics.classification import class_embeddings, class_ranks
from bridge.search import Embedder, Query, embed_for_bridge
from features.datasets.annotations import Annotations
from features.errors import UserError
from features.memories.memory import Memory
from features.progress import SILENT, Progress

_PROMPTS_AT_A_TIME = 256


@dataclass(frozen=True)
class Labelled:
    """Rows of a memory with their classes, by label; `classes` are all that can be answered."""

    rows: list[int]
    labels: list[str]
    classes: list[str]
    left_out: int


def labelled_items(items: Memory, annotations: Annotations | None) -> Labelled:
    """The items' classes, from annotations or from the memory's own labels.

    Raises UserError if there are none, or the annotations are of other items.
    """
    if annotations is None:
        if items.labels is None:
            raise UserError(
                f"{items.path} has no labels: extract with --label-column, or name the data set's "
                "annotations with --dataset and --annotations"
            )
        labels = list(items.labels)
        return Labelled(list(range(len(items))), labels, sorted(set(labels)), 0)
    known = [sample for sample in annotations.samples if sample.label is not None]
    if not known:
        raise UserError(f"{annotations.path} has no classes: give another data set's annotations")
    found = find_rows(items, [name_in(sample, items) for sample in known], annotations)
    labels_of: dict[int, str] = {}
    for row, one in zip(found, known, strict=True):
        if row is not None and labels_of.setdefault(row, str(one.label)) != one.label:
            raise UserError(
                f"{annotations.path} gives {items.ids[row]} two classes, {labels_of[row]} and "
                f"{one.label}: keep one of them"
            )
    classes = list(annotations.classes) or sorted(set(labels_of.values()))
    return Labelled(list(labels_of), list(labels_of.values()), classes, len(items) - len(labels_of))


def zero_shot_result(
    items: Memory,
    classes: Mapping[str, str] | None,
    templates: Sequence[str],
    embedder: Embedder,
    *,
    bridge: Bridge | None = None,
    via: str | None = None,
    annotations: Annotations | None = None,
    first: Sequence[int] = FIRST,
    where: str = "the list",
    resamples: int = 1000,
    seed: int = 0,
    trust_encoder: bool = False,
    progress: Progress = SILENT,
) -> Result:
    """Classify every item by the nearest of the classes' embeddings.

    A class is the normalised mean of its prompts, in the space where they are compared.
    classes: labels and the names that prompts say; None, the items' labels themselves.
    templates: in the order in which the first k of them are used, for every k of `first`.
    embedder: of the prompts; with a bridge in `via`, or in all its spaces that know text.
    bridge: None to classify in the items' own space. where: what the templates are called.
    Raises UserError for items of a class that has no prompts, and what extraction refuses.
    """
    check_first(first, templates, where)
    found = labelled_items(items, annotations)
    named = dict(classes) if classes is not None else names_of(found.classes)
    unknown = sorted({label for label in found.labels if label not in named})
    if unknown:
        raise UserError(
            f"{sum(label in unknown for label in found.labels)} items of {items.path} are of "
            f"classes that are not named ({', '.join(unknown[:3])}{', ...' * (len(unknown) > 3)}): "
            "add them to --classes, or leave these items out"
        )
    rows = comparable_rows(bridge, [items], trust_encoder=trust_encoder)[0][found.rows]
    number = {label: i for i, label in enumerate(named)}
    target = torch.tensor([number[label] for label in found.labels])
    embedded = _embed(
        prompts(named, templates[: max(first)]), embedder, items, bridge, via, progress
    )
    by_class = embedded.view(len(named), max(first), -1)
    return measured(
        "zero-shot",
        {_part(k): _samples(items, found, rows, by_class[:, :k], target) for k in first},
        bridge=bridge,
        memories={"items": items},
        settings={
            "templates": list(templates[: max(first)]),
            "classes": len(named),
            "text through": via or "all spaces that know text",
        },
        counts={
            "items": len(rows),
            "items without a label": found.left_out,
            "classes": len(named),
            "classes without items": len(named) - len(set(found.labels)),
        },
        annotations={} if annotations is None else {"annotations": annotations},
        resamples=resamples,
        seed=seed,
        progress=progress,
    )


def _part(k: int) -> str:
    return f"{k} template{'s' * (k > 1)}"


def _samples(
    items: Memory,
    found: Labelled,
    rows: Float[Tensor, "n e"],
    by_class: Float[Tensor, "c p e"],
    target: Int[Tensor, " n"],
) -> Samples:
    ranks = class_ranks(rows @ class_embeddings(by_class).T, target)
    return Samples(
        ids=[str(items.ids[row]) for row in found.rows],
        columns={"rank": ranks.tolist(), "class": target.tolist()},
    )


def _embed(
    sentences: Sequence[str],
    embedder: Embedder,
    items: Memory,
    bridge: Bridge | None,
    via: str | None,
    progress: Progress,
) -> Float[Tensor, "p e"]:
    parts = []
    with progress.task("embed prompts", len(sentences), unit="prompts") as advance:
        for start in range(0, len(sentences), _PROMPTS_AT_A_TIME):
            some = [Query("text", one) for one in sentences[start : start + _PROMPTS_AT_A_TIME]]
            if bridge is None:
                embedded = embedder.embed(some, items.space, items.header.encoder)
            else:
                embedded = embed_for_bridge(some, bridge, embedder, via=via)
            parts.append(embedded.cpu())
            advance(len(some))
    return torch.cat(parts)
