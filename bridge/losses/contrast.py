"""TCL's contrastive terms: CMA, IMC and LMI (Yang et al., CVPR 2022, arXiv 2202.10401).

Keys come from momentum projectors and from a queue of their earlier outputs, so that negatives
are many and change slowly. Soft targets are what the momentum projectors find similar: a wrong
pair weighs less.

Axes: n items in the batch, q in a queue, t parts of an item, d dimensions of the shared space.
Every row has unit L2 norm, unless it is a part that is not there. Costs are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bridge.losses import blocks
from bridge.training.distributed import Share

Temperature = float | Float[Tensor, ""]
_NOTHING = -1e4  # a logit that adds nothing; minus infinity has no gradient where all are


@dataclass(frozen=True)
class Keys:
    """What a view is contrasted with: its batch by the momentum projector, and a queue.

    rows: (n, d), row i is item `items[i]`. queue: (q, d), earlier rows of the items `queue_items`.
    """

    rows: Float[Tensor, "n d"]
    items: Int[Tensor, " n"]
    queue: Float[Tensor, "q d"]
    queue_items: Int[Tensor, " q"]


def momentum_contrast(
    view: Float[Tensor, "n d"],
    keys: Keys,
    *,
    temperature: Temperature,
    teacher: Float[Tensor, "n d"] | None = None,
    alpha: float = 0.0,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of finding each row's partner among the keys.

    Targets are `alpha softmax(teacher . keys / temperature) + (1 - alpha) one-hot`. No gradient
    flows into keys and targets. An item's own older row in the queue is no negative; with a queue
    much shorter than an epoch, as published, there is none.

    teacher: the momentum projector's rows of `view`'s items; not used where alpha is 0.
    share: which of the keys' rows `view` and `teacher` are of, where several processes hold the
    batch; what is returned is then this process's part.

    Two keys that are all alike cost ln(2):

    >>> same = torch.tensor([[1.0, 0.0]]).expand(2, 2)
    >>> keys = Keys(same, torch.arange(2), same[:0], torch.arange(0))
    >>> f"{momentum_contrast(same, keys, temperature=0.07):.4f}"
    '0.6931'
    """
    share = share or Share(len(view))
    everything = torch.cat([keys.rows, keys.queue]).detach()
    own_row, own_column = _equal(keys.items[share.mine], keys.queue_items)

    def scores(rows: Tensor, part: slice) -> Tensor:
        made = (rows[part] / temperature) @ everything.T
        mine = (own_row >= part.start) & (own_row < part.stop)
        made[own_row[mine] - part.start, len(keys.rows) + own_column[mine]] = _NOTHING
        return made

    def costs(part: slice) -> Tensor:
        logits = scores(view, part)
        pull = logits.diagonal(share.start + part.start)
        if teacher is not None and alpha > 0:
            with torch.no_grad():
                soft = scores(teacher, part).softmax(dim=1)
            # Targets sum to 1, so that the normaliser counts once.
            pull = alpha * torch.einsum("nk,nk->n", soft, logits) + (1 - alpha) * pull
        return logits.logsumexp(dim=1) - pull

    return _in_blocks(costs, len(view), len(everything)).sum() / share.rows


def cross_modal(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "n d"],
    left_keys: Keys,
    right_keys: Keys,
    *,
    temperature: Temperature,
    alpha: float,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """CMA, cross-modal alignment: each side against the other's keys, with soft targets.

    The mean of both ways. share: as for `momentum_contrast`.
    """
    share = share or Share(len(left))
    there = momentum_contrast(
        left, right_keys, temperature=temperature, teacher=left_keys.rows[share.mine],
        alpha=alpha, share=share,
    )  # fmt: skip
    back = momentum_contrast(
        right, left_keys, temperature=temperature, teacher=right_keys.rows[share.mine],
        alpha=alpha, share=share,
    )  # fmt: skip
    return (there + back) / 2


def intra_modal(
    views: Sequence[Float[Tensor, "n d"]],
    keys: Sequence[Keys],
    *,
    temperature: Temperature,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """IMC, intra-modal contrast: each view against the keys of its own modality.

    The mean of the modalities. keys: of another augmentation of the same items. share: as for
    `momentum_contrast`.
    """
    costs = [
        momentum_contrast(view, own, temperature=temperature, share=share)
        for view, own in zip(views, keys, strict=True)
    ]
    return torch.stack(costs).mean()


def local_information(
    view: Float[Tensor, "n d"],
    parts: Float[Tensor, "n t d"],
    mask: Bool[Tensor, "n t"],
    *,
    temperature: Temperature,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """LMI, local mutual information in one modality: an item against its own parts.

    Part t of item i costs `-log(exp s_it / (exp s_it + sum_k exp s_ik))`, where k runs over the
    parts of all other items of the batch: the parts of one item do not compete. The mean over the
    parts of an item, then over the items.

    parts: momentum projections; no gradient flows into them. mask: which there are; items
    without any are left out. share: which of the items `view` is of, where several processes hold
    them; what is returned is then this process's part.

    With everything alike, one of two items with three parts each costs ln(4):

    >>> same = torch.tensor([[1.0, 0.0]]).expand(2, 2)
    >>> there = torch.ones(2, 3, dtype=torch.bool)
    >>> f"{local_information(same, same[:, None].expand(2, 3, 2), there, temperature=1.0):.4f}"
    '1.3863'
    """
    n, t = mask.shape
    share = share or Share(n)
    known, there = parts.detach().flatten(0, 1), mask[share.mine]

    def costs(part: slice) -> Tensor:
        rows = torch.arange(n, device=view.device)[share.mine][part]
        inside = torch.arange(len(rows), device=view.device)
        logits = (view[part] @ known.T / temperature).view(len(rows), n, t)
        own = logits[inside, rows]
        other = mask.expand(len(rows), n, t).clone()
        other[inside, rows] = False
        negatives = logits.masked_fill(~other, _NOTHING).flatten(1).logsumexp(dim=1)
        each = F.softplus(negatives[:, None] - own).where(there[part], 0)
        return each.sum(dim=1) / there[part].sum(dim=1).clamp(min=1)

    total = _in_blocks(costs, len(view), n * t).where(there.any(dim=1), 0).sum()
    return total / mask.any(dim=1).sum().clamp(min=1)


def part_information(
    parts: Float[Tensor, "n t d"],
    mask: Bool[Tensor, "n t"],
    items: Float[Tensor, "n d"],
    *,
    temperature: Temperature,
    share: Share | None = None,
) -> Float[Tensor, ""]:
    """LMI the other way, of which item a part is: each part against the items of the batch.

    Part t of item i costs `-log softmax_i(s_itk)` over all items k. The mean over the parts of an
    item, then over the items. It is not published: there an encoder learns from either side, but
    a projector that trains on whole items alone has never seen a part.

    items: momentum projections; no gradient flows into them. mask: which parts there are; items
    without any are left out, but other items' parts are told from them. share: which of the items
    `parts` are of, where several processes hold them; what is returned is this process's part.

    With everything alike, each of two items is as good as the other:

    >>> same = torch.tensor([[1.0, 0.0]]).expand(2, 2)
    >>> there = torch.ones(2, 3, dtype=torch.bool)
    >>> f"{part_information(same[:, None].expand(2, 3, 2), there, same, temperature=1.0):.4f}"
    '0.6931'
    """
    n, t = mask.shape
    share = share or Share(n)
    known, there = items.detach(), mask[share.mine]
    flat = parts.flatten(0, 1)
    own = torch.arange(n, device=parts.device)[share.mine].repeat_interleave(t)

    def costs(part: slice) -> Tensor:
        return F.cross_entropy(flat[part] @ known.T / temperature, own[part], reduction="none")

    each = _in_blocks(costs, len(flat), n).view(-1, t).where(there, 0)
    per_item = each.sum(dim=1) / there.sum(dim=1).clamp(min=1)
    return per_item.sum() / mask.any(dim=1).sum().clamp(min=1)


def _equal(left: Int[Tensor, " n"], right: Int[Tensor, " q"]) -> tuple[Tensor, Tensor]:
    """Places i and j where `left[i] == right[j]`; a table of all i and j would be too large."""
    ordered, place = left.sort()
    first = torch.searchsorted(ordered, right)
    counts = torch.searchsorted(ordered, right, right=True) - first
    column = torch.arange(len(right), device=right.device).repeat_interleave(counts)
    ends = counts.cumsum(0)
    within = torch.arange(len(column), device=right.device) - (ends - counts)[column]
    return place[first[column] + within], column


def _in_blocks(costs: Callable[[slice], Tensor], rows: int, columns: int) -> Tensor:
    """Costs of all rows; where logits are many, of some at a time, computed again backwards."""
    if rows * columns <= blocks.MAX_LOGITS:
        return costs(slice(0, rows))
    size = max(1, blocks.MAX_LOGITS // columns)
    made = [
        checkpoint(costs, slice(start, start + size), use_reentrant=False, preserve_rng_state=False)
        for start in range(0, rows, size)
    ]
    return torch.cat(made)
