"""The figures of each protocol, from what was measured of every sample.

One definition makes the figures themselves, their intervals and the differences of two systems:
samples are counted once, or as often as a bootstrap drew them.

Axes: n samples, r resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from bridge.metrics.bootstrap import weighted_median
from bridge.metrics.classification import TOP, mean_over_classes
from bridge.metrics.maps import SUCCESS, success_areas
from bridge.metrics.recognition import recognition
from bridge.metrics.retrieval import CUTOFFS

Columns = Mapping[str, Float[Tensor, " n"]]
Figures = dict[str, Float[Tensor, " r"]]


def retrieval_figures(columns: Columns, counts: Float[Tensor, "r n"]) -> Figures:
    """From `rank` of the first right item, and `precision`, the average precision."""
    rank, precision = columns["rank"], columns["precision"]
    return {
        **{f"R@{k}": _mean((rank <= k).double(), counts) for k in CUTOFFS},
        "median rank": weighted_median(rank, counts),
        "mAP": _mean(precision, counts),
    }


def zero_shot_figures(columns: Columns, counts: Float[Tensor, "r n"]) -> Figures:
    """From `rank` of an item's own class, and `class`, its number."""
    rank, number = columns["rank"], columns["class"].long()
    return {
        **{f"top-{k}": _mean((rank <= k).double(), counts) for k in TOP},
        "per class": mean_over_classes(rank == 1, number, counts),
    }


def localisation_figures(columns: Columns, counts: Float[Tensor, "r n"]) -> Figures:
    """From `ciou`; papers call the success at 0.5 cIoU."""
    iou = columns["ciou"]
    return {
        f"success at {SUCCESS}": _mean((iou >= SUCCESS).double(), counts),
        "AUC": _mean(success_areas(iou), counts),
        "mean cIoU": _mean(iou, counts),
    }


def counterfactual_figures(columns: Columns, counts: Float[Tensor, "r n"]) -> Figures:
    """From `sounding`, `ciou` (0 of silent samples) and `confidence`."""
    sounding = columns["sounding"] > 0
    found = recognition(sounding, columns["ciou"] >= SUCCESS, columns["confidence"], counts)
    return {
        "AP": found.average_precision,
        "max-F1": found.max_f1,
        "LocAcc": found.localisation,
    }


STATISTICS: dict[str, Callable[[Columns, Float[Tensor, "r n"]], Figures]] = {
    "retrieval": retrieval_figures,
    "zero-shot": zero_shot_figures,
    "localisation": localisation_figures,
    "counterfactual": counterfactual_figures,
}


def _mean(values: Float[Tensor, " n"], counts: Float[Tensor, "r n"]) -> Float[Tensor, " r"]:
    return (counts @ values.double()) / counts.sum(dim=1)
