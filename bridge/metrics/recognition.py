"""Counterfactual recognition: whether a model knows when there is nothing to localise.

Of samples some sound, and some do not: what is heard is not seen, or nothing is. At a threshold of
the confidence, a sample that is at or above it is a true positive if it sounds and is localised
(cIoU of 0.5 or more), else a false positive; a sounding sample below it is a false negative.

Axes: n samples, r resamples.
Source: Mo & Morgado, A Closer Look at Weakly-Supervised Audio-Visual Source Localization, NeurIPS
2022, section 3. Every confidence that occurs is a threshold; their code takes about 200 of them for
AP and 10 for max-F1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Recognition:
    """Figures of each resample.

    average_precision: sum over thresholds, from the highest, of what recall gains times the best
    precision at this recall or more.
    max_f1: the highest F1 of a threshold.
    localisation: share of sounding samples that are localised, whatever their confidence (LocAcc).
    """

    average_precision: Float[Tensor, " r"]
    max_f1: Float[Tensor, " r"]
    localisation: Float[Tensor, " r"]


def recognition(
    sounding: Bool[Tensor, " n"],
    localised: Bool[Tensor, " n"],
    confidence: Float[Tensor, " n"],
    counts: Float[Tensor, "r n"] | None = None,
) -> Recognition:
    """Figures of samples, each counted as often as `counts` says, or once.

    Samples of equal confidence are at or above a threshold together. Where no sounding sample is
    counted, all figures are 0.

    Sounding and found, silent, sounding and not found, sounding and found:

    >>> found = recognition(
    ...     torch.tensor([True, False, True, True]),
    ...     torch.tensor([True, False, False, True]),
    ...     torch.tensor([0.9, 0.8, 0.7, 0.6]),
    ... )
    >>> [round(float(value), 4) for value in (found.average_precision[0], found.max_f1[0])]
    [0.6667, 0.6667]
    """
    if counts is None:
        counts = torch.ones(1, len(sounding), dtype=torch.float64)
    order = confidence.argsort(descending=True, stable=True)
    ordered = confidence[order]
    last = torch.ones_like(ordered, dtype=torch.bool)  # of those of equal confidence
    last[:-1] = ordered[1:] != ordered[:-1]
    times = counts.double()[:, order]
    hits = (sounding & localised)[order].double()
    true_positive = (times * hits).cumsum(dim=1)[:, last]
    confident = times.cumsum(dim=1)[:, last]
    heard = (times * sounding[order].double()).cumsum(dim=1)
    false_negative = heard[:, -1:] - heard[:, last]
    precision = _ratio(true_positive, confident)
    recall = _ratio(true_positive, true_positive + false_negative)
    best = precision.flip(1).cummax(dim=1).values.flip(1)
    gained = recall.diff(dim=1, prepend=torch.zeros_like(recall[:, :1]))
    f1 = _ratio(2 * precision * recall, precision + recall)
    return Recognition(
        average_precision=(gained * best).sum(dim=1),
        max_f1=f1.amax(dim=1),
        localisation=_ratio((times * hits).sum(dim=1), heard[:, -1]),
    )


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """0 where there is nothing to divide by."""
    return torch.where(bottom > 0, top / bottom.clamp(min=torch.finfo(bottom.dtype).tiny), 0.0)
