"""Zero-shot classification from scores of items and classes.

A class is embedded as the mean of its prompts (CLIP, arXiv 2103.00020, section 3.1.4). Ties count
against the system, as in `bridge.metrics.retrieval`; NaN ranks last.

Axes: n items, c classes, p prompts of a class, d dimensions, r resamples.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

TOP = (1, 3, 5)


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


def mean_over_classes(
    right: Bool[Tensor, " n"], number: Int[Tensor, " n"], counts: Float[Tensor, "r n"]
) -> Float[Tensor, " r"]:
    """Mean over classes of the share of their items that are right; classes without one left out.

    number: of each item's class, from 0. counts: how often each item was drawn, some at least once.

    >>> right = torch.tensor([True, True, False])
    >>> mean_over_classes(right, torch.tensor([0, 1, 1]), torch.ones(1, 3))
    tensor([0.7500], dtype=torch.float64)
    """
    counts, into = counts.double(), number.expand_as(counts)
    none = counts.new_zeros(len(counts), int(number.max()) + 1)
    held = none.scatter_add(1, into, counts)
    found = none.scatter_add(1, into, counts * right)
    return (found / held.clamp(min=1)).sum(dim=1) / (held > 0).sum(dim=1)
