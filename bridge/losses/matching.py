"""TCL's terms of the fusion encoder: ITM and MLM (Yang et al., CVPR 2022, arXiv 2202.10401).

Axes: n pairs, w words, v words of the vocabulary. Costs are in nats.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from bridge.training.distributed import Share


def matching(
    positive: Float[Tensor, " n"],
    wrong_right: Float[Tensor, " r"],
    wrong_left: Float[Tensor, " l"],
    *,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """ITM: cross-entropy of telling pairs that match from those that do not.

    All three are logits of a match, of n pairs, and of either side with another's partner: as many
    as there are such partners. The mean over all of them. share: which of all pairs, one kind after
    the other, these are; what is returned is then this process's part.

    >>> zeros = torch.zeros(3)
    >>> f"{matching(zeros, zeros, zeros):.4f}"
    '0.6931'
    """
    costs = torch.cat([F.softplus(-positive), F.softplus(wrong_right), F.softplus(wrong_left)])
    return costs.sum() / (share or Share(len(costs))).rows


def hard_negatives(
    logits: Float[Tensor, "n m"], excluded: Bool[Tensor, "n m"], *, generator: torch.Generator
) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
    """Rows, and for each a column drawn from the softmax of its logits, none that is excluded.

    Rows that exclude every column have no negative and are left out.
    """
    (rows,) = (~excluded.all(dim=1)).nonzero(as_tuple=True)
    chances = logits[rows].masked_fill(excluded[rows], -torch.inf).softmax(dim=1)
    return rows, torch.multinomial(chances, 1, generator=generator).squeeze(1)


def masked_words(
    logits: Float[Tensor, "n w v"],
    words: Int[Tensor, "n w"],
    masked: Bool[Tensor, "n w"],
    *,
    teacher: Float[Tensor, "n w v"] | None = None,
    alpha: float = 0.0,
    counted: Int[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """MLM: cross-entropy of the masked words, with the momentum encoder's answer as soft target.

    The target of a masked word is `alpha softmax(teacher) + (1 - alpha) one-hot`. The mean over the
    masked words; without any it is zero. counted: how many there are, if these are not all pairs.

    >>> words, masked = torch.tensor([[1, 0]]), torch.tensor([[True, False]])
    >>> f"{masked_words(torch.zeros(1, 2, 4), words, masked):.4f}"
    '1.3863'
    """
    known = logits[masked].log_softmax(dim=-1)
    costs = -known.gather(1, words[masked].unsqueeze(1)).squeeze(1)
    if teacher is not None and alpha > 0:
        soft = teacher[masked].detach().softmax(dim=-1)
        costs = (1 - alpha) * costs - alpha * (soft * known).sum(dim=-1)
    return costs.sum() / (masked.sum() if counted is None else counted).clamp(min=1)
