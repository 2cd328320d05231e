"""What a space or a bridge is like: gaps, alignment, uniformity, CKA, hubs and neighbourhoods.

Before, in the memories' own spaces, and after, in the bridge's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bridge.artefact import Bridge
from bridge.evaluation.results import Result, of_bridge, of_memory
from bridge.evaluation.rows import check_one_space
from bridge.metrics.spaces import (
    alignment,
    linear_cka,
    modality_gap,
    neighbour_agreement,
    occurrences,
    skewness,
    uniformity,
)
from bridge.projection import check_memory, is_projected
from features.errors import UserError
from features.memories.memory import Memory
from features.progress import SILENT, Progress
from features.search.nearest import nearest

ROWS = 10_000


@dataclass(frozen=True)
class _Part:
    """A memory's rows before and after; `after` is None without a bridge."""

    memory: Memory
    ids: dict[str, int]
    before: Float[Tensor, "n d"]
    after: Float[Tensor, "n e"] | None


def diagnostics_result(
    memories: Sequence[Memory],
    *,
    bridge: Bridge | None = None,
    neighbours: int = 10,
    rows: int = ROWS,
    seed: int = 0,
    trust_encoder: bool = False,
    progress: Progress = SILENT,
) -> Result:
    """Figures of each memory, and of each two of them, before and after a bridge.

    neighbours: k of hubs and of neighbourhoods. rows: of larger memories so many are drawn, by
    `seed`, those whose ids all memories share first.
    What needs partners (alignment, CKA, agreement of neighbours) takes items of equal ids; what
    needs one space (gaps, hubs) is left out before a bridge where the spaces differ.
    Raises UserError for projected memories, fewer rows than neighbours, or, without a bridge,
    memories of one space from different encoders.
    """
    _check(memories, bridge, neighbours, rows, trust_encoder)
    names = _names(memories)
    parts = {
        name: _part(memory, memories, bridge, rows, seed)
        for name, memory in zip(names, memories, strict=True)
    }
    figures: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    pairs = list(combinations(names, 2))
    with progress.task("diagnose", len(names) + len(pairs), unit="parts") as advance:
        for name, part in parts.items():
            counts[f"{name}: items"] = len(part.before)
            counts[f"{name}: items not drawn"] = len(part.memory) - len(part.before)
            figures[name] = _of_one(part)
            advance(1)
        for left, right in pairs:
            pair = f"{left} | {right}"
            shared = sorted(parts[left].ids.keys() & parts[right].ids.keys())
            counts[f"{pair}: shared ids"] = len(shared)
            figures[pair] = _of_two(parts[left], parts[right], shared, neighbours)
            advance(1)
    return Result(
        protocol="diagnostics",
        figures=figures,
        bridge=of_bridge(bridge),
        memories={name: of_memory(part.memory) for name, part in parts.items()},
        settings={"neighbours": neighbours, "rows": rows},
        counts=counts,
        seed=seed,
    )


def _of_one(part: _Part) -> dict[str, float]:
    found = {"uniformity before": uniformity(part.before)}
    if part.after is not None:
        found["uniformity after"] = uniformity(part.after)
    return found


def _of_two(left: _Part, right: _Part, shared: list[str], k: int) -> dict[str, float]:
    mine = [[part.ids[name] for name in shared] for part in (left, right)]
    found: dict[str, float] = {}
    stages: list[tuple[str, Tensor, Tensor, bool]] = [
        ("before", left.before, right.before, _is_one_space(left.memory, right.memory))
    ]
    if left.after is not None and right.after is not None:
        stages.append(("after", left.after, right.after, True))
    for when, one, other, comparable in stages:
        if comparable:
            found[f"gap {when}"] = modality_gap(one, other)
            found[f"hubs {when}"] = skewness(occurrences(_nearest(one, other, k), len(other)))
            found[f"hubs {when}, back"] = skewness(occurrences(_nearest(other, one, k), len(one)))
        if len(shared) < k + 2:
            continue
        pair = one[mine[0]], other[mine[1]]
        if comparable:
            found[f"alignment {when}"] = alignment(*pair)
        found[f"CKA {when}"] = linear_cka(*pair)
        found[f"neighbours agree {when}"] = neighbour_agreement(*(_others(p, k) for p in pair))
    return found


def _is_one_space(left: Memory, right: Memory) -> bool:
    return (left.space, left.dimension) == (right.space, right.dimension)


def _nearest(queries: Tensor, rows: Tensor, k: int) -> Int[Tensor, "n k"]:
    return nearest(queries, rows, k)[1]


def _others(rows: Float[Tensor, "n d"], k: int) -> Int[Tensor, "n k"]:
    """The k nearest other rows of each row."""
    found = _nearest(rows, rows, k + 1)
    own = found == torch.arange(len(rows))[:, None]
    own[~own.any(dim=1), -1] = True  # k + 1 others are as near as the row itself
    return found[~own].view(len(rows), k)


def _part(
    memory: Memory, memories: Sequence[Memory], bridge: Bridge | None, rows: int, seed: int
) -> _Part:
    taken = _drawn(memory, memories, rows, seed)
    before = memory.tensor(taken)
    after = None
    if bridge is not None:
        after = bridge.project(before, memory.space, memory.modality).cpu()
    ids = {str(memory.ids[int(row)]): i for i, row in enumerate(taken)}
    return _Part(memory, ids, before, after)


def _drawn(memory: Memory, memories: Sequence[Memory], rows: int, seed: int) -> NDArray[np.intp]:
    """Rows to look at, in order: those with partners first, drawn by their ids."""
    if len(memory) <= rows:
        return np.arange(len(memory))
    shared = set.intersection(*(set(map(str, one.ids)) for one in memories))
    ids = sorted(map(str, memory.ids))
    order = np.random.default_rng(seed).permutation(len(ids))
    drawn = [ids[i] for i in order]
    first = sorted(shared)
    chosen = [first[i] for i in np.random.default_rng(seed).permutation(len(first))]
    chosen += [name for name in drawn if name not in shared]
    return np.sort(np.array([memory.row_of[name] for name in chosen[:rows]], dtype=np.intp))


def _names(memories: Sequence[Memory]) -> list[str]:
    stems = [memory.path.stem for memory in memories]
    return stems if len(set(stems)) == len(stems) else [str(memory.path) for memory in memories]


def _check(
    memories: Sequence[Memory],
    bridge: Bridge | None,
    neighbours: int,
    rows: int,
    trust_encoder: bool,
) -> None:
    if len({memory.path for memory in memories}) < len(memories) or not memories:
        raise UserError("a diagnosis takes one memory or more, each once: give them once")
    for memory in memories:
        if is_projected(memory):
            raise UserError(
                f"{memory.path} is projected already, so there is no before: give the memory that "
                "it came from, and the bridge with --bridge"
            )
        if bridge is not None:
            check_memory(bridge, memory, trust_encoder=trust_encoder)
        if min(len(memory), rows) < neighbours + 2:
            raise UserError(
                f"{neighbours} neighbours need {neighbours + 2} items but {memory.path} has "
                f"{min(len(memory), rows)} to look at: ask for fewer with --neighbours"
            )
    if bridge is None:  # which would have compared each of them with its own encoders
        for pair in combinations(memories, 2):
            if _is_one_space(*pair):
                check_one_space(pair, trust_encoder=trust_encoder)
