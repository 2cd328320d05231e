"""Localisation: from maps of similarity and boxes to consensus IoU.

A map holds the similarity of one query, such as a sound, with every place of a picture; the truth
holds how many annotators, up to a full agreement of 1, marked each place. Boxes are left, top,
right, bottom in fractions of the picture; maps are rows of pixels from the top left.

Axes: h, w places of a coarse map, s pixels of either side, b boxes, t places, d dimensions,
n samples.
Sources: cIoU and its success curve: Senocak et al., Learning to Localize Sound Source in Visual
Scenes, CVPR 2018, section 5; thresholds and confidence: Mo & Morgado, A Closer Look at
Weakly-Supervised Audio-Visual Source Localization, NeurIPS 2022, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Box = tuple[float, float, float, float]
Upsampling = Literal["bicubic", "bilinear", "nearest"]
SIZE = 224  # pixels of either side that maps and boxes are compared on
SUCCESS = 0.5  # cIoU
STEPS = 20  # of the success curve
_ROUNDING = 1e-9  # of a fraction times the size: 3 / 224 * 224 is below 3 by less


def box_mask(box: Box, size: int = SIZE) -> Bool[Tensor, "s s"]:
    """The pixels of a box: from its first edge, rounded down, to before its last, rounded down.

    >>> box_mask((0.0, 0.5, 0.25, 1.0), size=4).int()
    tensor([[0, 0, 0, 0],
            [0, 0, 0, 0],
            [1, 0, 0, 0],
            [1, 0, 0, 0]], dtype=torch.int32)
    """
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[box_slices(box, size)] = True
    return mask


def box_slices(box: Box, size: int = SIZE) -> tuple[slice, slice]:
    """The rows and columns of a box's pixels."""
    left, top, right, bottom = (
        math.floor(min(max(edge, 0.0), 1.0) * size + _ROUNDING) for edge in box
    )
    return slice(top, bottom), slice(left, right)


def truth_map(boxes: Sequence[Box], *, agreed: int = 1, size: int = SIZE) -> Float[Tensor, "s s"]:
    """How much of an agreement each pixel has: boxes that hold it over `agreed`, at most 1.

    agreed: 1 where one person marked each thing (VGG-SS), 2 where two of three annotators make a
    consensus (Flickr-SoundNet).
    """
    held = torch.zeros(size, size, dtype=torch.float64)
    for box in boxes:
        held[box_slices(box, size)] += 1
    return (held / agreed).clamp(max=1)


def similarity_map(
    query: Float[Tensor, " d"], local: Float[Tensor, "t d"], grid: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """Cosine of a unit query with the unit embeddings of a picture's places."""
    return (local.double() @ query.double()).view(grid)


def upsampled(
    coarse: Float[Tensor, "h w"], shape: tuple[int, int], how: Upsampling = "bicubic"
) -> Float[Tensor, "height width"]:
    """A map on finer pixels. Interpolations put the corner places on the corners, as published.

    nearest: every pixel has the value of the place that holds it.
    """
    corners = None if how == "nearest" else True
    fine = F.interpolate(coarse.double()[None, None], shape, mode=how, align_corners=corners)
    return fine[0, 0]


def minmax(values: Float[Tensor, "s s"]) -> Float[Tensor, "s s"]:
    """Values from 0 to 1; a map without differences becomes 0 everywhere.

    >>> minmax(torch.tensor([[1.0, 3.0], [2.0, 1.0]]))
    tensor([[0.0000, 1.0000],
            [0.5000, 0.0000]])
    """
    low, high = values.amin(), values.amax()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


def predicted(values: Float[Tensor, "s s"], threshold: float | None = None) -> Bool[Tensor, "s s"]:
    """The pixels at or above the threshold, of values from 0 to 1; unset, at or above the median.

    The median of an even number of pixels is the upper of the middle two, so that half of them are
    predicted where no two are equal. Where many are, more are: of a map without differences, all.

    >>> predicted(torch.tensor([[0.1, 0.2], [0.3, 0.4]])).int()
    tensor([[0, 0],
            [1, 1]], dtype=torch.int32)
    """
    if threshold is not None:
        return values >= threshold
    flat = values.flatten()
    return values >= flat.kthvalue(len(flat) // 2 + 1).values


def consensus_iou(prediction: Bool[Tensor, "s s"], truth: Float[Tensor, "s s"]) -> float:
    """cIoU: agreement that is predicted, over all agreement and what is predicted outside of it.

    Takes a truth that is not empty.

    >>> half = torch.tensor([[True, False], [True, False]])
    >>> consensus_iou(half, torch.tensor([[1.0, 1.0], [0.0, 0.0]])) == 1 / 3
    True
    """
    inside = float(truth[prediction].sum(dtype=torch.float64))
    outside = int((prediction & (truth == 0)).sum())
    return inside / (float(truth.sum(dtype=torch.float64)) + outside)


def confidence(values: Float[Tensor, "s s"]) -> float:
    """Mean of the highest quarter of a map's values, before they are normalised.

    >>> confidence(torch.tensor([[0.0, 0.25], [0.5, 1.0]]))
    1.0
    """
    flat = values.flatten().double()
    return float(flat.topk(max(1, len(flat) // 4)).values.mean())


def success_areas(ious: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Area under each sample's success at the cIoUs 0, 0.05, .. 1, by trapezoids.

    Their mean is the area under the success curve, the share of samples with at least each cIoU.

    >>> f"{float(success_areas(torch.tensor([0.5]))):.4f}"
    '0.5250'
    """
    ious = ious.double()
    thresholds = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    passed = torch.bucketize(ious, thresholds, right=True).double()
    return (passed - 0.5 - (ious >= 1).double() / 2) / STEPS  # the curve's ends count half
