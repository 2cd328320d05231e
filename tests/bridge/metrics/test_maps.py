from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import auc

from bridge.metrics.maps import (
    box_mask,
    confidence,
    consensus_iou,
    minmax,
    predicted,
    similarity_map,
    success_areas,
    truth_map,
    upsampled,
)


def rows(*lines: str) -> torch.Tensor:
    """A mask drawn with # and dots."""
    return torch.tensor([[one == "#" for one in line] for line in lines])


@pytest.mark.parametrize(
    ("box", "drawn"),
    [
        ((0, 0, 1, 1), ["####", "####", "####", "####"]),
        ((0.25, 0.5, 0.75, 1), ["....", "....", ".##.", ".##."]),
        ((0.3, 0.3, 0.6, 0.6), ["....", ".#..", "....", "...."]),  # edges are rounded down
        ((-0.5, 0, 0.5, 0.25), ["##..", "....", "....", "...."]),
        ((0.9, 0.9, 7, 7), ["....", "....", "....", "...#"]),
        ((0.25, 1.0, 0.75, 1.0), ["....", "....", "....", "...."]),  # no height, as some are
        ((0.75, 0.25, 0.25, 0.75), ["....", "....", "....", "...."]),
    ],
)
def test_boxes_as_pixels(box, drawn):
    assert torch.equal(box_mask(box, 4), rows(*drawn))


def test_an_edge_on_a_pixel_is_on_that_pixel():
    for edge in range(225):  # 3 / 224 * 224 is not 3
        assert int(box_mask((0, 0, edge / 224, 1))[0].sum()) == edge


def test_annotators_agree():
    boxes = [(0, 0, 0.5, 1), (0, 0, 0.5, 0.5), (0, 0, 1, 0.5)]
    assert truth_map(boxes, agreed=1, size=2).tolist() == [[1, 1], [1, 0]]
    assert truth_map(boxes, agreed=2, size=2).tolist() == [[1, 0.5], [0.5, 0]]
    assert truth_map([], size=2).tolist() == [[0, 0], [0, 0]]


def test_ious_worked_by_hand():
    truth = truth_map([(0, 0, 0.5, 1)], size=4)  # 8 pixels, the left half
    assert consensus_iou(rows("##..", "##..", "##..", "##.."), truth) == 1
    assert consensus_iou(rows("..##", "..##", "..##", "..##"), truth) == 0
    assert consensus_iou(rows("####", "####", "....", "...."), truth) == 4 / (8 + 4)
    assert consensus_iou(rows("####", "####", "####", "####"), truth) == 8 / (8 + 8)
    assert consensus_iou(rows("....", "....", "....", "...."), truth) == 0
    # Pixels that half of the annotators marked count half, and are not outside.
    half = torch.tensor([[1.0, 0.5], [0.0, 0.0]])
    assert consensus_iou(rows("##", "#."), half) == 1.5 / (1.5 + 1)


def test_half_of_the_pixels_are_predicted():
    values = torch.rand(224, 224, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert int(predicted(values).sum()) == 224 * 224 // 2
    assert torch.equal(predicted(values), values >= np.sort(values.flatten())[224 * 224 // 2])
    assert int(predicted(torch.zeros(4, 4)).sum()) == 16
    assert torch.equal(predicted(torch.tensor([[0.1, 0.5], [0.5, 0.9]]), 0.5), rows(".#", "##"))


def test_the_area_is_scikit_learns():
    ious = torch.rand(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    thresholds = np.arange(21) / 20
    shares = [(ious.numpy() >= one).mean() for one in thresholds]
    assert float(success_areas(ious).mean()) == pytest.approx(auc(thresholds, shares), abs=1e-15)


def test_a_cut_of_the_curve_is_met_exactly():
    # 3 * 0.05 is more than 0.15: thresholds are twentieths, so that 3 of 20 pixels pass the third.
    twentieths = torch.arange(21, dtype=torch.float64) / 20
    expected = [(step + 0.5) / 20 for step in range(20)] + [1.0]
    assert success_areas(twentieths).tolist() == expected
    below = [(step - 0.5) / 20 for step in range(1, 21)]
    assert success_areas(twentieths[1:] - 1e-12).tolist() == below


def test_the_confidence_is_the_mean_of_the_top_quarter():
    assert confidence(torch.arange(16.0).view(4, 4)) == (12 + 13 + 14 + 15) / 4
    assert confidence(torch.tensor([[0.3]])) == pytest.approx(0.3)


def test_maps_are_cosines_in_rows_from_the_top_left():
    local = torch.eye(6)
    assert similarity_map(torch.eye(6)[4], local, (2, 3)).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_finer_maps():
    coarse = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    nearest = upsampled(coarse, (4, 4), "nearest")
    assert nearest.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    linear = upsampled(coarse, (3, 3), "bilinear")
    assert linear.tolist() == [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]
    cubic = upsampled(coarse, (5, 5))
    assert cubic[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == pytest.approx([0, 1, 2, 3], abs=1e-12)


def test_values_from_0_to_1():
    assert minmax(torch.tensor([[2.0, 4.0], [3.0, 2.0]])).tolist() == [[0, 1], [0.5, 0]]
    assert minmax(torch.full((2, 2), 0.7)).tolist() == [[0, 0], [0, 0]]
