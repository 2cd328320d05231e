"""Embeddings before and after a bridge, as rows that can be drawn in one picture.

Before, two spaces share nothing. Each is turned by an orthonormal matrix into as many dimensions
as the widest has: distances and cosines within a space stay, those between two spaces are those
of two spaces that nobody has joined.

Axes: n items, d dimensions of a space, e of the common one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from bridge.artefact import Bridge
from bridge.evaluation.rows import check_one_space
from bridge.projection import check_memory, is_projected
from features.memories.memory import Memory

BEFORE, AFTER = "before the bridge", "after the bridge"
TURNED = "before, each space is turned at random into the same number of dimensions"


@dataclass(frozen=True)
class Stage:
    """Unit rows of every memory, in one space. name: the title of its panel."""

    name: str
    rows: list[Float[NDArray[Any], "n e"]]


@dataclass(frozen=True)
class Stages:
    """Before and after, or after alone. notes: what a reader must know."""

    stages: list[Stage]
    notes: list[str]


def stages(
    bridge: Bridge | None,
    memories: Sequence[Memory],
    taken: Sequence[Int[NDArray[Any], " n"]],
    *,
    seed: int = 0,
    trust_encoder: bool = False,
) -> Stages:
    """The rows `taken` of each memory, before and after the bridge.

    After alone if a memory is projected already; the memories' own space if there is no bridge.
    Raises UserError if the bridge does not know a memory, or the memories are not of one space.
    """
    if bridge is None:
        check_one_space(memories, trust_encoder=trust_encoder)
        rows = [_rows(m, t) for m, t in zip(memories, taken, strict=True)]
        return Stages([Stage(f"the space {memories[0].space}", rows)], [])
    for memory in memories:
        check_memory(bridge, memory, trust_encoder=trust_encoder)
    after = Stage(AFTER, [_projected(bridge, m, t) for m, t in zip(memories, taken, strict=True)])
    if any(is_projected(memory) for memory in memories):
        return Stages([after], [])
    widths = {memory.space: memory.dimension for memory in memories}
    turns = isometries(widths, seed=seed)
    before = [_rows(m, t) @ turns[m.space] for m, t in zip(memories, taken, strict=True)]
    return Stages([Stage(BEFORE, before), after], [TURNED] if len(widths) > 1 else [])


def isometries(
    widths: Mapping[str, int], *, seed: int = 0
) -> dict[str, Float[NDArray[Any], "d e"]]:
    """For each space, a matrix with orthonormal rows into the widest's number of dimensions."""
    rng, common = np.random.default_rng(seed), max(widths.values())
    return {
        space: np.linalg.qr(rng.normal(size=(common, width)))[0].T
        for space, width in widths.items()
    }


def drawn_rows(memory: Memory, items: int, seed: int) -> Int[NDArray[Any], " n"]:
    """Rows of at most `items` items, in order, drawn by the seed if there are more."""
    if len(memory) <= items:
        return np.arange(len(memory))
    return np.sort(np.random.default_rng(seed).permutation(len(memory))[:items])


def told_draws(
    memories: Sequence[Memory], taken: Sequence[Int[NDArray[Any], " n"]], seed: int
) -> list[str]:
    """A sentence about the memories that are not drawn whole."""
    parts = [
        f"{len(rows):,} of {len(memory):,} {memory.modality} items"
        for memory, rows in zip(memories, taken, strict=True)
        if len(rows) < len(memory)
    ]
    return [f"{', '.join(parts)}, drawn with seed {seed}"] if parts else []


def names_of(memories: Sequence[Memory]) -> list[str]:
    """What each memory is called: its modality, with its space where two share one."""
    modalities = [memory.modality for memory in memories]
    names = [
        m.modality if modalities.count(m.modality) == 1 else f"{m.modality} ({m.space})"
        for m in memories
    ]
    return [
        name if names.count(name) == 1 else f"{name} {memory.path.stem}"
        for name, memory in zip(names, memories, strict=True)
    ]


def _rows(memory: Memory, rows: Int[NDArray[Any], " n"]) -> Float[NDArray[Any], "n d"]:
    return memory.tensor(rows).double().numpy()


def _projected(
    bridge: Bridge, memory: Memory, rows: Int[NDArray[Any], " n"]
) -> Float[NDArray[Any], "n e"]:
    if is_projected(memory):
        return _rows(memory, rows)
    with torch.inference_mode():
        shared = bridge.project(memory.tensor(rows), memory.space, memory.modality)
    return shared.double().cpu().numpy()
