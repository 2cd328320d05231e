"""How well held-out hub items find themselves in the other space."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bridge.metrics.retrieval import paired_retrieval
from bridge.projector import AnyProjector
from bridge.training.training_set import FrozenRows

HELD_OUT_SCORE = "held_out_mrr"
MAX_HELD_OUT = 2048  # rows that are scored


@torch.inference_mode()
def held_out_scores(projectors: Mapping[str, AnyProjector], frozen: FrozenRows) -> dict[str, float]:
    """R@1 and mean reciprocal rank, means of both directions; nothing if none are held out."""
    if not len(next(iter(frozen.held_out.values()))):
        return {}
    left, right = (
        projectors[space].project(rows[:MAX_HELD_OUT], frozen.modalities[space]["hub"])
        for space, rows in frozen.held_out.items()
    )
    scores = left @ right.T
    there, back = paired_retrieval(scores), paired_retrieval(scores.T)
    return {
        "held_out_r1": (there.recall[1] + back.recall[1]) / 2,
        HELD_OUT_SCORE: (there.mean_average_precision + back.mean_average_precision) / 2,
    }
