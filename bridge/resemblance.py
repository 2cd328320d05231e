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

from bridge.training_set import CheckedMemories, FrozenRows
from features.errors import UserError

FEWEST, NARROWEST = 16, 32  # items of either, and dimensions, below which nothing can be said
CHANCE, LEAST = 0.25, 0.35  # shares; between spaces 0.21 to 0.32 was seen, within one 0.75 to 0.99


def shared_directions(hub: Float[Tensor, "n d"], leaf: Float[Tensor, "m d"]) -> float | None:
    """Share of the hub items' variance in the quarter of directions where the leaf varies most.

    A quarter by chance. None where either has too few items, or the space too few dimensions.
    """
    if min(len(hub), len(leaf)) < FEWEST or hub.shape[1] < NARROWEST:
        return None
    rows, others = hub - hub.mean(dim=0), leaf - leaf.mean(dim=0)
    _, axes = torch.linalg.eigh(others.T @ others)  # the largest come last
    main = axes[:, -(hub.shape[1] // 4) :]
    return float((rows @ main).square().sum() / rows.square().sum())


def check_resemblance(frozen: FrozenRows, sources: CheckedMemories) -> None:
    """Raise UserError if a leaf memory has no more to do with its hub items than by chance."""
    hubs = {memory.space: memory for memory in sources.hub}
    for space, leaf in frozen.leaf.items():
        share = shared_directions(frozen.hub[space], leaf)
        if share is not None and share < LEAST:
            paths = " and ".join(str(memory.path) for memory in sources.leaf[space])
            nearest = (frozen.hub[space][:FEWEST] @ leaf.T).amax(dim=1).mean()
            raise UserError(
                f"no hub item of {hubs[space].path} resembles the leaf memory {paths}: the "
                f"directions in which the memory varies hold {share:.0%} of what tells hub items "
                f"apart, and {CHANCE:.0%} would be chance (nearest items have a cosine of "
                f"{nearest:.2f}), so the bridge would be noise; embed both with one encoder"
            )
