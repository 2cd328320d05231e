"""What settings need of the memories, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Collection

from bridge.config import CLOSED_FORMS, TrainSettings
from features.errors import UserError


def term_weights(settings: TrainSettings, with_leaf: Collection[str]) -> dict[str, float]:
    """The weights of the terms that the leaf memories allow.

    with_leaf: names of the spaces that have a leaf memory; of two spaces.
    """
    weights = {"inter_hub": settings.inter_hub_weight}
    if settings.kind == "distil":
        return {**weights, "distil": settings.distil_weight}
    if len(with_leaf) == 2:
        weights["inter_leaf"] = settings.inter_leaf_weight
    if with_leaf:
        weights["intra"] = settings.intra_weight
    if settings.kind == "tcl":
        weights |= settings.tcl_weights
    return weights


def check_requirements(
    settings: TrainSettings, spaces: Collection[str], with_leaf: Collection[str]
) -> None:
    """Raise UserError if the settings need what the memories of the two spaces do not have."""
    if settings.method in CLOSED_FORMS:
        return
    if settings.pseudo_pairs != "hub" and not with_leaf:
        raise UserError(
            f"pseudo_pairs is '{settings.pseudo_pairs}' but no leaf memory is given: give leaf "
            "memories, or set it to hub"
        )
    missing = [space for space in spaces if space not in with_leaf]
    if settings.kind == "distil" and missing:  # its targets are between two leaf memories
        raise UserError(
            f"distil needs a leaf memory of both spaces and {' and '.join(missing)} lacks it: "
            "give it with --leaf, or choose the objective cmcr"
        )
    weights = term_weights(settings, with_leaf)
    if settings.kind == "cwcl":
        _check_cwcl(settings, spaces, weights)
    if not any(weights.values()):
        raise UserError(
            "the weights of all terms that the memories allow are zero: nothing to train; "
            "give inter_hub_weight, or leaf memories, or another weight"
        )


def _check_cwcl(
    settings: TrainSettings, spaces: Collection[str], weights: dict[str, float]
) -> None:
    if settings.cwcl_space is not None and settings.cwcl_space not in spaces:
        raise UserError(
            f"cwcl_space is '{settings.cwcl_space}' but the hub joins {' and '.join(spaces)}: "
            "name one of them"
        )
    if settings.cwcl_terms == "leaf" and "inter_leaf" not in weights:
        raise UserError(
            "cwcl_terms is 'leaf' but pairs of leaf embeddings need a leaf memory of both spaces: "
            "give them with --leaf, or weigh the hub's pairs"
        )
    weighed = {"hub": ["inter_hub"], "leaf": ["inter_leaf"]}.get(
        settings.cwcl_terms, ["inter_hub", "inter_leaf"]
    )
    if not any(weights.get(name) for name in weighed):
        raise UserError(
            f"cwcl_terms is '{settings.cwcl_terms}' but the weight of {' and '.join(weighed)} is "
            "0, so that there is nothing to weigh: raise it, or choose the objective cmcr"
        )
