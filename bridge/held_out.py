"""How well held-out hub items find themselves in the other space."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bridge.projector import AnyProjector
from bridge.training_set import FrozenRows
from features.products import product

HELD_OUT_SCORE = "held_out_mrr"
MAX_HELD_OUT = 4096  # rows that are scored


@torch.inference_mode()
def held_out_scores(projectors: Mapping[str, AnyProjector], frozen: FrozenRows) -> dict[str, float]:
    """R@1 and mean reciprocal rank, means of both directions; nothing if none are held out.

    The same as `paired_retrieval` gives, whose sorting would take longer than a training step.
    """
    if not len(next(iter(frozen.held_out.values()))):
        return {}
    left, right = (
        projectors[space].project(rows[:MAX_HELD_OUT], frozen.modalities[space]["hub"])
        for space, rows in frozen.held_out.items()
    )
    scores = product(left, right).nan_to_num(nan=-torch.inf)
    own = scores.diagonal()
    ranks = torch.cat([(scores >= own[:, None]).sum(dim=1), (scores >= own).sum(dim=0)]).double()
    return {
        "held_out_r1": float((ranks == 1).double().mean()),
        HELD_OUT_SCORE: float(ranks.reciprocal().mean()),
    }
