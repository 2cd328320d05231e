"""The variants of an ablation: C-MCR whole, and without each of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.config import TrainSettings
from bridge.training.requirements import term_weights

FULL = "full"


@dataclass(frozen=True)
class Change:
    """What a variant changes of the full recipe; leaf: whether it has the leaf memories."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    leaf: bool = True


CHANGES: dict[str, Change] = {
    FULL: Change(),
    "without noise": Change({"noise_variance": 0.0}),
    # Nothing but the hub: there are no leaf items either to centre pseudo pairs on.
    "without pseudo pairs": Change({"pseudo_pairs": "hub"}, leaf=False),
    "without inter hub": Change({"inter_hub_weight": 0.0}),
    "without inter leaf": Change({"inter_leaf_weight": 0.0}),
    "without intra": Change({"intra_weight": 0.0}),
}


def variants(settings: TrainSettings, with_leaf: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of the variants to train, full first, and by name why the others are not.

    settings: of the full recipe. with_leaf: names of the spaces that have a leaf memory.
    """
    full = term_weights(settings, with_leaf)
    names, left_out = [FULL], {}
    for name, change in CHANGES.items():
        if name == FULL:
            continue
        changed = replace(settings, **change.settings)
        weights = term_weights(changed, with_leaf if change.leaf else ())
        same_rows = change.leaf or not with_leaf
        same_noise = changed.noise_variance == settings.noise_variance
        if not any(weights.values()):
            left_out[name] = "nothing would be left to train on"
        elif weights == full and same_rows and same_noise:
            left_out[name] = f"it is the same as {FULL}, as {_why(change, settings, with_leaf)}"
        else:
            names.append(name)
    return names, left_out


def _why(change: Change, settings: TrainSettings, with_leaf: Sequence[str]) -> str:
    """Why a change changes nothing."""
    for name in change.settings:
        if getattr(settings, name) == 0:
            return f"{name} is 0 anyway"
    return f"only {with_leaf[0]} has a leaf memory" if with_leaf else "there is no leaf memory"
