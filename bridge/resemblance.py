"""Whether hub items resemble the items of a leaf memory at all.

Retrieval always finds something: the nearest items of a memory from another encoder, or of other
things, are noise, and a bridge through them is noise too.

Axes: n hub items, m items of the leaf memory, d dimensions; unit rows of one space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bridge.training_set import CheckedMemories, FrozenRows
from features.errors import UserError

FEWEST = 16  # items of either, below which nothing can be said
_HUB, _LEAF, _DRAWS = 512, 2048, 16


@dataclass(frozen=True)
class Resemblance:
    """Mean cosine of a hub item and the leaf item it resembles most, about each one's mean.

    by_chance: the highest of those with the leaf memory reflected at random along its principal
    axes, which keeps how its items spread and forgets what they are.
    """

    found: float
    by_chance: float


def resemblance(
    hub: Float[Tensor, "n d"], leaf: Float[Tensor, "m d"], *, generator: torch.Generator
) -> Resemblance | None:
    """Of a sample of both; None where either has too few items."""
    if min(len(hub), len(leaf)) < FEWEST:
        return None
    rows = _sample(hub, _HUB, generator)
    others = _sample(leaf, _LEAF, generator)
    _, _, axes = torch.linalg.svd(others, full_matrices=False)
    draws = []
    for _ in range(_DRAWS):
        signs = torch.randint(0, 2, (len(axes),), generator=generator).to(rows) * 2 - 1
        draws.append(_best(rows, (others @ axes.T * signs) @ axes))
    return Resemblance(_best(rows, others), max(draws))


def check_resemblance(frozen: FrozenRows, sources: CheckedMemories, *, seed: int) -> None:
    """Raise UserError if a leaf memory resembles its hub items no more than chance would."""
    generator = torch.Generator().manual_seed(seed)
    hubs = {memory.space: memory for memory in sources.hub}
    for space, leaf in frozen.leaf.items():
        told = resemblance(frozen.hub[space], leaf, generator=generator)
        if told is not None and told.found <= told.by_chance:
            paths = " and ".join(str(memory.path) for memory in sources.leaf[space])
            raise UserError(
                f"no hub item of {hubs[space].path} resembles the leaf memory {paths}: nearest "
                f"items have a cosine of {told.found:.3f}, and {told.by_chance:.3f} by chance, so "
                "the bridge would be noise; embed both with one encoder, and hub items that speak "
                "of what the leaf memory holds"
            )


def _sample(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(rows), generator=generator)[:most].to(rows.device)
    return F.normalize(rows[chosen] - rows.mean(dim=0), dim=-1)


def _best(rows: Tensor, others: Tensor) -> float:
    return float((rows @ others.T).amax(dim=1).mean())
