"""Zero-shot classification from scores of items and classes.

A class is embedded as the mean of its prompts (CLIP, arXiv 2103.00020, section 3.1.4). Ties count
against the system, as in `bridge.metrics.retrieval`; NaN ranks last.

Axes: n items, c classes, p prompts of a class, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

TOP = (1, 3, 5)


@dataclass(frozen=True)
class Classification:
    """Figures over all items.

    top: share of items whose class is among the k best-scored, by k.
    per_class: mean over classes of the share of their items that are classified rightly.
    items: how many there are. empty: classes without an item, which `per_class` leaves out.
    """

    top: dict[int, float]
    per_class: float
    items: int
    empty: int


def class_embeddings(prompts: Float[Tensor, "c p d"]) -> Float[Tensor, "c d"]:
    """Normalised mean of each class's prompts, themselves unit rows.

    >>> class_embeddings(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    tensor([[0.7071, 0.7071]])
    """
    return F.normalize(prompts.double().mean(dim=1), dim=-1).to(prompts.dtype)


def class_ranks(scores: Float[Tensor, "n c"], target: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Rank of each item's own class, 1 is best; a class that scores the same is ranked before it.

    >>> class_ranks(torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.2, 0.1]]), torch.tensor([2, 0]))
    tensor([2, 2])
    """
    scores = scores.nan_to_num(nan=-torch.inf)
    own = scores.gather(1, target[:, None])
    return (scores >= own).sum(dim=1)


def classification(
    ranks: Int[Tensor, " n"], target: Int[Tensor, " n"], classes: int
) -> Classification:
    """Figures from the ranks of `class_ranks`; there is at least one item."""
    right = (ranks == 1).double()
    count = target.bincount(minlength=classes)
    found = torch.zeros(classes, dtype=torch.float64).index_add(0, target, right)
    filled = count > 0
    return Classification(
        top={k: float((ranks <= k).double().mean()) for k in TOP},
        per_class=float((found[filled] / count[filled]).mean()),
        items=len(ranks),
        empty=int((~filled).sum()),
    )
