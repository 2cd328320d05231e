"""Bridges by a closed form: what linear algebra, or the hub items themselves, make of two spaces.

They are made in seconds and need no leaf memories; those that are there give the means of their
modalities. See `bridge.methods.closed_forms` and `bridge.methods.anchors` for the formulas.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bridge.artefact import make_projector
from bridge.config import TrainSettings
from bridge.methods import closed_forms
from bridge.methods.anchors import Posterior, Similarities
from bridge.projector import Projector, Shape
from bridge.training.training_set import FrozenRows
from features.errors import UserError


def solve(frozen: FrozenRows, settings: TrainSettings) -> dict[str, Projector]:
    """The projectors of the settings' method. Raises UserError if the hub items are too few."""
    spaces = list(frozen.hub)
    items = len(frozen.hub[spaces[0]])
    if items < closed_forms.MINIMUM_ITEMS:
        raise UserError(
            f"{settings.method} needs {closed_forms.MINIMUM_ITEMS} hub items, {items} are left: "
            "give more, or a smaller --holdout"
        )
    if settings.method in ("relative", "routing"):
        chosen = _anchors(items, settings).to(frozen.hub[spaces[0]].device)
        return {space: _anchored(frozen, space, chosen, settings) for space in spaces}
    frames = {space: _projector(frozen, space, settings, "identity") for space in spaces}
    left, right = (
        _with_float64(frames[space].centred(frozen.hub[space], frozen.modalities[space]["hub"]))
        for space in spaces
    )
    maps = _aligned(left, right, settings)
    if not all(one.any() for one in maps):
        raise UserError(
            f"{settings.method} finds no direction in which the {items} hub items differ in both "
            "spaces: give items that differ"
        )
    made = {}
    for space, matrix in zip(spaces, maps, strict=True):
        made[space] = _projector(frozen, space, settings, "linear", outputs=matrix.shape[1])
        made[space].layers[0].weight.data = matrix.T.contiguous().to(frozen.hub[space].device)
    return made


def _aligned(left: Tensor, right: Tensor, settings: TrainSettings) -> closed_forms.Alignment:
    dimension = settings.dimension
    if settings.method == "procrustes":
        return closed_forms.procrustes(left, right, dimension=dimension)
    # In units of one item's share, as the settings have it: hub items speak for themselves
    # the more of them there are.
    penalty = settings.penalty / len(left)
    if settings.method == "ridge":
        return closed_forms.ridge(
            left, right, dimension=dimension, penalty=penalty * right.shape[1], direction="left"
        )
    return closed_forms.cca(
        left,
        right,
        dimension=dimension,
        penalty=penalty * max(left.shape[1], right.shape[1]),
        power=settings.correlation_power,
    )


def _with_float64(rows: Tensor) -> Tensor:
    """The rows where float64 can be computed: Apple's GPUs cannot."""
    return rows.cpu() if rows.device.type == "mps" else rows


def _anchored(frozen: FrozenRows, space: str, chosen: Tensor, settings: TrainSettings) -> Projector:
    shape: Shape = "routing" if settings.method == "routing" else "relative"
    projector = _projector(frozen, space, settings, shape, outputs=len(chosen))
    rows = projector.centred(frozen.hub[space][chosen], frozen.modalities[space]["hub"])
    layer = projector.layers[0]
    assert isinstance(layer, Posterior | Similarities)
    layer.anchors.copy_(rows)
    if isinstance(layer, Posterior):
        layer.temperature.fill_(settings.routing_temperature)
    return projector


def _anchors(items: int, settings: TrainSettings) -> Tensor:
    """Which hub items to compare with: all, or as many as the settings allow, in their order."""
    generator = torch.Generator().manual_seed(settings.seed)
    return torch.randperm(items, generator=generator)[: settings.anchors].sort().values


def _projector(
    frozen: FrozenRows,
    space: str,
    settings: TrainSettings,
    shape: Shape,
    *,
    outputs: int | None = None,
) -> Projector:
    rows = frozen.hub[space]
    projector = make_projector(
        rows.shape[1],
        settings,
        shape=shape,
        outputs=outputs,
        modalities=frozen.centred_modalities(space, settings.means),
    ).to(rows.device)
    frozen.centre(projector, space, settings.means)
    return projector.eval()
