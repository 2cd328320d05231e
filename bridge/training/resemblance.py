"""Whether a leaf memory has anything to do with the hub items of its space.

Retrieval always finds something: the nearest items of a memory from another encoder are noise, and
a bridge through them is noise too. In one space, what tells hub items apart lies along the same
directions as what tells leaf items apart; between two spaces that is chance.

Axes: n hub items, m items of the leaf memory, d dimensions; unit rows of one space.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.training.leaf_rows import LeafRows, in_blocks
from bridge.training.training_set import CheckedMemories, FrozenRows
from features.errors import UserError

FEWEST, NARROWEST = 16, 32  # items of either, and dimensions, below which nothing can be said
SAME = 1e-6  # variance of unit vectors that differ by rounding alone
CHANCE, LEAST = 0.25, 0.35  # shares; between spaces 0.21 to 0.32 was seen, within one 0.75 to 0.99


def shared_directions(hub: Float[Tensor, "n d"], leaf: LeafRows) -> float | None:
    """Share of the hub items' variance in the quarter of directions where the leaf varies most.

    A quarter by chance. None where either has too few items to say, hub items do not differ, or
    the space has too few dimensions. leaf: (m, d).
    """
    quarter = hub.shape[1] // 4
    if len(hub) < FEWEST or len(leaf) < max(FEWEST, quarter) or hub.shape[1] < NARROWEST:
        return None
    of_hub, of_leaf = _covariance(hub), _covariance(leaf)
    if float(of_hub.trace()) < SAME:
        return None
    _, axes = torch.linalg.eigh(of_leaf)  # the largest come last
    main = axes[:, -quarter:]
    return float((main.T @ of_hub @ main).trace() / of_hub.trace())


def _covariance(rows: LeafRows) -> Float[Tensor, "d d"]:
    """On the CPU, which has float64; the rows stay where they are."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    moments = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for block in in_blocks(rows):
        total += block.sum(dim=0).cpu()
        moments += (block.T @ block).cpu()
    mean = total / len(rows)
    return moments / len(rows) - mean[:, None] * mean[None, :]


def check_resemblance(frozen: FrozenRows, sources: CheckedMemories) -> None:
    """Raise UserError if a leaf memory has no more to do with its hub items than by chance."""
    hubs = {memory.space: memory for memory in sources.hub}
    for space, leaf in frozen.leaf.items():
        share = shared_directions(frozen.hub[space], leaf)
        if share is not None and share < LEAST:
            paths = " and ".join(str(memory.path) for memory in sources.leaf[space])
            some = frozen.hub[space][:FEWEST]
            best = [(some @ block.T).amax(dim=1) for block in in_blocks(leaf)]
            nearest = torch.stack(best).amax(dim=0).mean()
            raise UserError(
                f"no hub item of {hubs[space].path} resembles the leaf memory {paths}: the "
                f"directions in which the memory varies hold {share:.0%} of what tells hub items "
                f"apart, and {CHANCE:.0%} would be chance (nearest items have a cosine of "
                f"{nearest:.2f}), so the bridge would be noise; embed both with one encoder"
            )
