"""What projectors are trained for: terms on one augmented batch, and their weighted sum.

Axes: n pairs in the batch; the spaces' dimensions may differ before projection. Rows are
centred unit embeddings, as the projectors take them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.losses.cwcl import cwcl
from bridge.losses.info_nce import info_nce
from bridge.losses.intra import intra_distance
from bridge.losses.soft_targets import soft_cross_entropy
from bridge.projector import Projector
from bridge.training.distributed import Share

Contrast = Callable[[Tensor, Tensor, float], Float[Tensor, ""]]  # left, right, temperature
Batch = Mapping[str, Mapping[str, Float[Tensor, "n d"]]]  # space -> "hub" or "leaf" -> rows


def cmcr_terms(
    projected: Batch,
    *,
    inter_hub_temperature: float,
    inter_leaf_temperature: float,
    contrasts: Mapping[str, Contrast] | None = None,
    bf16: bool = False,
    share: Share | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """`inter_hub`, `inter_leaf` and `intra` of C-MCR, in nats and in distance.

    projected: by `project_batch`.
    contrasts: by role (`hub`, `leaf`), what to use in place of InfoNCE.
    bf16: compute InfoNCE's products in bfloat16.
    share: which rows of the whole batch these are; terms are then this process's parts of them.

    A space without a leaf memory has no `leaf` rows; `inter_leaf` needs both spaces' and
    `intra` is averaged over the spaces that have one.
    """
    left, right = projected.values()
    plain = {role: partial(_info_nce, bf16=bf16, share=share) for role in ("hub", "leaf")}
    chosen: dict[str, Contrast] = {**plain, **(contrasts or {})}
    terms = {"inter_hub": chosen["hub"](left["hub"], right["hub"], inter_hub_temperature)}
    if "leaf" in left and "leaf" in right:
        terms["inter_leaf"] = chosen["leaf"](left["leaf"], right["leaf"], inter_leaf_temperature)
    distances = [
        intra_distance(parts["hub"], parts["leaf"], share=share)
        for parts in projected.values()
        if "leaf" in parts
    ]
    if distances:
        terms["intra"] = torch.stack(distances).mean()
    return terms


def cwcl_contrast(
    frozen: Float[Tensor, "n d"],
    *,
    on_left: bool,
    sharpness: float,
    symmetric: bool,
    share: Share | None = None,
) -> Contrast:
    """CWCL on the pairs whose frozen embeddings, of the left or of the right space, are given.

    share: which of these pairs it is called with.
    """

    def contrast(left: Tensor, right: Tensor, temperature: float) -> Tensor:
        sides = (left, right) if on_left else (right, left)
        return cwcl(
            *sides, frozen, temperature=temperature, sharpness=sharpness, symmetric=symmetric,
            share=share,
        )  # fmt: skip

    return contrast


def distil_terms(
    batch: Batch,
    projectors: Mapping[str, Projector],
    targets: Float[Tensor, "n m"],
    *,
    inter_hub_temperature: float,
    distil_temperature: float,
    bf16: bool = False,
    hub_share: Share | None = None,
    leaf_shares: tuple[Share, Share] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """`inter_hub`, and `distil`: the leaf items of both spaces learn how much they agree.

    targets: of every left leaf item with every right one, at least zero.
    bf16: compute InfoNCE's products in bfloat16.
    hub_share, leaf_shares: which rows of the whole batch these are, targets being of these left
    items with all right ones; terms are then this process's parts of them.
    """
    left, right = project_batch(batch, projectors).values()
    return {
        "inter_hub": _info_nce(
            left["hub"], right["hub"], inter_hub_temperature, bf16=bf16, share=hub_share
        ),
        "distil": soft_cross_entropy(
            left["leaf"], right["leaf"], targets, temperature=distil_temperature,
            shares=leaf_shares,
        ),
    }  # fmt: skip


def _info_nce(
    left: Tensor, right: Tensor, temperature: float, *, bf16: bool, share: Share | None
) -> Tensor:
    return info_nce(left, right, temperature=temperature, bf16=bf16, share=share)


def weighted_sum(
    terms: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, float]
) -> Float[Tensor, ""]:
    """`sum_k weights[k] terms[k]`, terms of weight zero left out of the graph."""
    return torch.stack(
        [weights[name] * term for name, term in terms.items() if weights[name]]
    ).sum()


def project_batch(
    batch: Batch, projectors: Mapping[str, Projector]
) -> dict[str, dict[str, Float[Tensor, "n e"]]]:
    """All of a space's rows in one pass, so that BatchNorm sees every modality together.

    Statistics of each modality alone would hide the gap in training and bring it back at
    inference, where one set of running statistics serves both.
    """
    projected = {}
    for space, parts in batch.items():
        joined = projectors[space](torch.cat(list(parts.values())))
        sizes = [len(rows) for rows in parts.values()]
        projected[space] = dict(zip(parts, joined.split(sizes), strict=True))
    return projected
