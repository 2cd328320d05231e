"""Checks an encoder on a few known things before millions of others go through it.

Right norms say that it loads and runs; the same answer in any company, that memories can be
trusted; the right sentence for every sample, that weights, preprocessing and tokenizer belong
together. A wrong activation or resolution shows in the last one alone, if at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import ItemError

if TYPE_CHECKING:
    from torch import Tensor

    from features.encoders import Encoder
    from features.samples import Samples
    from features.space import Modality

NORM_TOLERANCE = 1e-3
# Cosine of an item's embeddings in different company; low precision rounds by batch size.
SAME = {"fp32": 0.999999, "bf16": 0.999, "fp16": 0.9999}
ALIKE = 0.9999  # above this, two different things are not told apart


@dataclass(frozen=True)
class Finding:
    """One check: what it is about, whether it passed, and the figures."""

    check: str
    passed: bool
    told: str


def examine(encoder: Encoder, samples: Samples) -> Iterator[Finding]:
    """Check `encoder` on files, each with its sentence; yields findings as they come."""
    embedded: dict[Modality, Tensor] = {}
    sentences = list(dict.fromkeys(text for pairs in samples.values() for _, text in pairs))
    for modality in encoder.space.modalities:
        items: Sequence[str | Path] = [path for path, _ in samples.get(modality, [])]
        if modality == "text":
            items = sentences
        try:
            arrays = [encoder.input(modality)(item) for item in items]
        except ItemError as error:
            yield Finding(f"{modality}: reads", False, str(error))
            continue
        embedded[modality] = encoder.encode(arrays, modality)
        yield _norms(modality, embedded[modality], encoder.space.dimension)
        yield _told_apart(modality, embedded[modality])
        yield _same_in_any_company(encoder, modality, arrays, embedded[modality])
    if "text" in embedded:
        for modality in [one for one in embedded if one != "text"]:
            texts = embedded["text"][[sentences.index(text) for _, text in samples[modality]]]
            names = [path.stem for path, _ in samples[modality]]
            yield _matches(modality, names, embedded[modality] @ texts.T)


def _norms(modality: Modality, rows: Tensor, dimension: int) -> Finding:
    norms = rows.norm(dim=1)
    low, high = float(norms.min()), float(norms.max())
    passed = rows.shape[1] == dimension and max(1 - low, high - 1) < NORM_TOLERANCE
    return Finding(
        f"{modality}: unit embeddings",
        passed,
        f"{len(rows)} items, {rows.shape[1]} dimensions, norms {low:.6f} to {high:.6f}",
    )


def _told_apart(modality: Modality, rows: Tensor) -> Finding:
    cosines = (rows @ rows.T).fill_diagonal_(-1)
    highest = float(cosines.max())
    return Finding(
        f"{modality}: different things differ", highest < ALIKE, f"highest cosine {highest:.4f}"
    )


def _same_in_any_company(
    encoder: Encoder, modality: Modality, arrays: Sequence[Any], rows: Tensor
) -> Finding:
    import torch

    alone = torch.cat([encoder.encode([array], modality) for array in arrays])
    reversed_ = encoder.encode(arrays[::-1], modality).flip(0)
    lowest = float(min((rows * other).sum(dim=1).min() for other in (alone, reversed_)))
    wanted = SAME.get(encoder.description.precision, SAME["fp32"])
    return Finding(
        f"{modality}: the same in any batch",
        lowest >= wanted,
        f"lowest cosine {lowest:.7f}, alone and in reverse order; wanted {wanted}",
    )


def _matches(modality: Modality, names: Sequence[str], scores: Tensor) -> Finding:
    """Every sample against the sentences of its modality; scores: (samples, sentences)."""
    order = scores.argsort(dim=1, descending=True)
    right = [int(order[i, 0]) == i for i in range(len(names))]
    told = ", ".join(
        f"{name} {float(scores[i, i]):.3f} "
        f"({'next' if right[i] else 'best'} {float(scores[i, order[i, int(right[i])]]):.3f})"
        for i, name in enumerate(names)
    )
    return Finding(f"{modality}: its own sentence wins", all(right), told)
