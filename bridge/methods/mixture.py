"""Mixtures: several ways to bridge the same spaces, weighed on hub items that they have not seen.

No single method is best everywhere: hub routing is where the hub names what the leaves hold,
closed forms where hub items are few, projectors where there are many. A mixture averages their
similarities, with weights found by stacked generalisation (Wolpert 1992; Breiman 1996): every
candidate is fitted without some of the hub items, and the weights are those under which the
left-out items are found best in the other space. A left-out hub item is looked up by the item of
the leaf memory that it resembles most, where there is one, so that the gap and the spread of the
leaf modality count. Nothing is paired.

Axes: n hub items, q of them left out, g in the gallery, c candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bridge.config import TrainSettings
from bridge.methods.closed import solve
from bridge.methods.routing import Posteriors, agreement, posteriors
from bridge.projector import AnyProjector
from bridge.training.run import Run
from bridge.training.training_set import MIN_ITEMS, FrozenRows, build_training_set
from features.errors import UserError
from features.progress import SILENT, Progress

MINIMUM_ITEMS = 10
FOLDS = 5
ENOUGH = 500  # left-out items; more folds than they need are not fitted
MOST_FITTED, MOST_LEFT_OUT, MOST_DISTRACTORS = 16_384, 1024, 1024
NEGLIGIBLE = 0.05  # weights below are dropped: they are as likely to harm
ROUTING_TEMPERATURES = (0.05, 0.1, 0.2)
_LINEAR_EPOCHS = 100 / 36  # of those that the two layers get
_FEW = 4096  # items; with more, batches and epochs are those of the settings
SAME_TEMPERATURE = 0.01  # of retrieval from a leaf memory, as published
_SHRINKAGE = 1e-6

Scores = Float[Tensor, "c q g"]


@dataclass(frozen=True)
class Question:
    """Similarities of left-out items with a gallery by every candidate.

    right: how much each item of the gallery answers each left-out one; rows sum to 1.
    """

    scores: Scores
    right: Float[Tensor, "q g"]


def candidates(settings: TrainSettings, items: int) -> dict[str, TrainSettings]:
    """Settings of everything that a mixture of `items` hub items is made of."""
    seed, dimension = settings.seed, settings.dimension
    return {
        "cca": TrainSettings(
            method="cca", penalty=settings.penalty, dimension=dimension, seed=seed
        ),
        **{
            name if centre == chosen.centres[0] else f"{name} {centre}-centred": replace(
                chosen, pseudo_pairs=centre
            )
            for name, chosen in shapes(settings, items).items()
            for centre in chosen.centres
        },
        **{
            f"routing {temperature}": TrainSettings(
                method="routing",
                routing_temperature=temperature,
                anchors=settings.anchors,
                seed=seed,
            )
            for temperature in ROUTING_TEMPERATURES
        },
    }


def shapes(settings: TrainSettings, items: int) -> dict[str, TrainSettings]:
    """Of the projectors in a mixture: a linear one, and one of the settings' own shape."""
    plain = TrainSettings()
    own = replace(settings, method="projectors", anchors=plain.anchors, penalty=plain.penalty)
    linear = replace(
        own,
        projector="linear",
        centring="modality",
        inter_hub_temperature=0.05,
        inter_leaf_temperature=0.05,
        learning_rate=3 * settings.learning_rate,
    )
    if items <= _FEW:
        epochs = math.ceil(settings.epochs * _LINEAR_EPOCHS)
        linear = replace(linear, batch=settings.batch or 512, epochs=epochs)
    # The linear one has settings of its own.
    name = "projectors" if settings.projector == "linear" else settings.projector
    return {"linear": linear, name: own}


def members(settings: TrainSettings, items: int) -> dict[str, TrainSettings]:
    """What a mixture is made of, or the projectors of an ensemble, by seed and data centre."""
    if settings.method == "mixture":
        return candidates(settings, items)
    return {
        f"seed {seed} {centre}-centred" if len(settings.centres) > 1 else f"seed {seed}": replace(
            settings, ensemble=1, seed=seed, pseudo_pairs=centre
        )
        for seed in range(settings.seed, settings.seed + settings.ensemble)
        for centre in settings.centres
    }


def fit(
    frozen: FrozenRows, settings: TrainSettings, *, progress: Progress = SILENT
) -> Mapping[str, AnyProjector]:
    """Projectors by the settings' method or objective, kept in memory."""
    if settings.method != "projectors":
        return solve(frozen, settings)
    device = next(iter(frozen.hub.values())).device
    run = Run(None, settings, build_training_set(frozen, settings), {}, device)
    run.fit(progress)
    return run.projectors


def questions(
    frozen: FrozenRows, tried: Mapping[str, TrainSettings], *, seed: int, progress: Progress
) -> list[Question]:
    """What every candidate answers about hub items that it was fitted without.

    Raises UserError if the hub items are too few to leave some out.
    """
    items = len(next(iter(frozen.hub.values())))
    if items < MINIMUM_ITEMS:
        raise UserError(
            f"a mixture is weighed on left-out hub items and needs {MINIMUM_ITEMS} of them, "
            f"{items} are left besides those of --holdout: give more, or choose one method, such "
            "as --method cca"
        )
    order = torch.randperm(items, generator=torch.Generator().manual_seed(seed))
    folds = order.tensor_split(FOLDS)[: max(1, math.ceil(ENOUGH * FOLDS / items))]
    asked = []
    with progress.task("weigh", len(folds) * len(tried), unit="fits") as advance:
        for fold in folds:
            left_out = fold[:MOST_LEFT_OUT]
            kept = order[~torch.isin(order, fold)][:MOST_FITTED]
            part = _without(frozen, kept)
            gallery = torch.cat([left_out, kept[:MOST_DISTRACTORS]])
            beliefs = _beliefs(frozen, gallery)
            answers = []
            for settings in tried.values():
                made = fit(part, replace(settings, patience=None))  # nothing is held out here
                answers.append(_answers(made, beliefs, frozen, gallery))
                advance(1)
            right = _right(beliefs, len(left_out), len(gallery))
            for views in zip(*answers, strict=True):
                scores = torch.stack([there[: len(right)] @ here.T for there, here in views])
                asked.append(Question(scores.cpu(), right.cpu()))
    return asked


def stacked_weights(asked: Sequence[Question]) -> tuple[list[float], float]:
    """Weights at least zero, summing to 1, and the mean cross-entropy under them, in nats.

    They minimise the cross-entropy of `softmax(sum_c w_c scores_c)`, whose scale is free; a
    convex problem in w, solved from equal weights.
    """
    free = torch.full((len(asked[0].scores),), 3.0, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS([free], max_iter=200, line_search_fn="strong_wolfe")
    wide = [(one.scores.double(), one.right.double()) for one in asked]

    def cost() -> Tensor:
        weights = F.softplus(free)
        losses = [
            F.cross_entropy(torch.einsum("c,cqg->qg", weights, scores), right)
            for scores, right in wide
        ]
        return torch.stack(losses).mean()

    def closure() -> float:
        optimizer.zero_grad()
        loss = cost() + _SHRINKAGE * F.softplus(free).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        weights = F.softplus(free)
        return (weights / weights.sum()).tolist(), float(cost())


def weigh(
    frozen: FrozenRows, settings: TrainSettings, *, progress: Progress = SILENT
) -> dict[str, float]:
    """Weights of the candidates, by name, without the negligible ones; they sum to 1."""
    tried = candidates(settings, len(next(iter(frozen.hub.values()))))
    asked = questions(frozen, tried, seed=settings.seed, progress=progress)
    weights = frozen.ranks.told(lambda: stacked_weights(asked)[0])
    kept = {
        name: weight for name, weight in zip(tried, weights, strict=True) if weight >= NEGLIGIBLE
    }
    return {name: weight / sum(kept.values()) for name, weight in kept.items()}


Views = list[tuple[Tensor, Tensor]]


def _answers(
    projectors: Mapping[str, AnyProjector],
    beliefs: Mapping[str, Posteriors],
    frozen: FrozenRows,
    gallery: Tensor,
) -> Views:
    """Projected queries and gallery, both ways: from leaf to leaf, leaf to hub and hub to leaf.

    From hub to hub where no space has a leaf memory.
    """
    views: dict[str, dict[str, Tensor]] = {}
    with torch.inference_mode():
        for space, projector in projectors.items():
            modalities, rows = frozen.modalities[space], gallery.to(frozen.hub[space].device)
            views[space] = {"hub": projector.project(frozen.hub[space][rows], modalities["hub"])}
            if space in beliefs:
                most_similar = beliefs[space].hub[:, 0]
                seen = frozen.leaf[space].index_select(0, most_similar)
                views[space]["leaf"] = projector.project(seen, modalities["leaf"])
    left, right = views.values()
    pairs = [
        (left[one], right[other])
        for one in left
        for other in right
        if "leaf" in (one, other) or not beliefs
    ]
    return [way for one, other in pairs for way in ((one, other), (other, one))]


def _beliefs(frozen: FrozenRows, rows: Tensor) -> dict[str, Posteriors]:
    """Which leaf items these hub items resemble, in every space with a leaf memory."""
    return {
        space: posteriors(
            frozen.hub[space][rows.to(leaf.device)], leaf, temperature=SAME_TEMPERATURE
        )
        for space, leaf in frozen.leaf.items()
    }


def _right(beliefs: Mapping[str, Posteriors], left_out: int, gallery: int) -> Tensor:
    """The same item, and others that the leaves cannot tell from it; left-out ones come first.

    Ten sentences about one digit resemble the same pictures: which of them it was, no picture
    can tell, and no method should be asked.
    """
    if not beliefs:
        return torch.eye(left_out, gallery)
    alike = [agreement(one[:left_out], one) for one in beliefs.values()]
    right = torch.stack(alike).prod(dim=0)
    return right / right.sum(dim=1, keepdim=True)


def _without(frozen: FrozenRows, kept: Tensor) -> FrozenRows:
    hub = {space: rows[kept.sort().values.to(rows.device)] for space, rows in frozen.hub.items()}
    nothing = {space: rows[:0] for space, rows in frozen.hub.items()}
    assert len(kept) >= MIN_ITEMS
    origin = None if frozen.origin is None else frozen.origin.narrowed(kept.sort().values)
    return replace(frozen, hub=hub, held_out=nothing, origin=origin)
