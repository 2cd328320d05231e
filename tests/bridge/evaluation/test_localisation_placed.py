"""Localisation from picture files to figures, as published: bicubic maps, cut at their median.

What encoders see of a picture is all of it with margins (`pad`), or its middle (`crop`).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from bridge.evaluation.localisation import localisation_result
from bridge.evaluation.picture_maps import LocalMaps
from features.datasets import read_annotations
from features.memories.memory import Columns, MemoryHeader
from features.memories.writing import save_memory, write_memory
from tests.bridge.evaluation.placed import write_boxes

SIZE = 224  # of the maps, either side
RESIZE_MODES = {"pad": "longest", "crop": "shortest", "squash": "squash"}
# A place of similarity c with the sound (1, 0) is embedded as (c, sqrt(1 - c^2)).
SOUND = np.array([[1, 0]], dtype=np.float32)


def embedded(similarity: np.ndarray) -> np.ndarray:
    flat = similarity.reshape(-1)
    return np.stack([flat, np.sqrt(1 - flat**2)], axis=1).astype(np.float32)


@pytest.fixture
def localise(tmp_path):
    """The result for a picture of this shape, seen so, with these similarities, and one box."""

    def result(similarity, shape, fit, box, threshold=None):
        similarity = np.asarray(similarity, dtype=np.float64)
        Image.new("L", (shape[1], shape[0])).save(tmp_path / "picture.png")
        encoder = {"preprocessing": {"image": {"size": [64, 64], "resize_mode": RESIZE_MODES[fit]}}}
        places = similarity.size
        header = MemoryHeader(
            "exact", "image", 2, "float32", encoder, root=str(tmp_path), local_length=places
        )
        pictures = write_memory(
            tmp_path / "pictures.h5", header, Columns(["picture.png"]), [SOUND],
            local=[(embedded(similarity)[None], np.ones((1, places), np.uint8))],
        )  # fmt: skip
        sounds = save_memory(
            tmp_path / "sounds.h5", SOUND, ["picture"], space="exact", modality="audio",
            encoder=encoder,
        )  # fmt: skip
        boxes = write_boxes(
            tmp_path / "boxes.csv", {"picture.png": [box]}, {"picture.png": "picture"}
        )
        return localisation_result(
            LocalMaps(pictures, None, grid=similarity.shape),
            sounds, read_annotations("boxes", boxes), threshold=threshold, resamples=0,
        )  # fmt: skip

    return result


def cubic_weights(places: int, pixels: int) -> np.ndarray:
    """Keys' cubic convolution with a = -0.75, corners on corners, edges repeated; (pixels, places).

    As the published code has it from OpenCV and torch.
    """
    a = -0.75
    weights = np.zeros((pixels, places))
    for pixel in range(pixels):
        at = pixel * (places - 1) / (pixels - 1)
        for place in range(math.floor(at) - 1, math.floor(at) + 3):
            x = abs(at - place)
            if x <= 1:
                weight = (a + 2) * x**3 - (a + 3) * x**2 + 1
            else:
                weight = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            weights[pixel, min(max(place, 0), places - 1)] += weight
    return weights


def naive_iou(similarity, shape, fit, box, threshold=None) -> float:
    """cIoU, pixel by pixel, in float64."""
    cells = embedded(np.asarray(similarity))[:, 0].astype(np.float64).reshape(similarity.shape)
    height, width = shape
    larger = max if fit == "pad" else min  # side of the square that the encoder sees
    tall, wide = (larger(height, width) / side for side in (height, width))
    if fit == "squash":
        tall = wide = 1.0
    (top, bottom), (left, right) = (
        (round((1 - side) / 2 * SIZE), round((1 + side) / 2 * SIZE)) for side in (tall, wide)
    )
    rows, columns = bottom - top, right - left
    seen = cubic_weights(cells.shape[0], rows) @ cells @ cubic_weights(cells.shape[1], columns).T
    whole = np.full((SIZE, SIZE), seen.min())
    for row in range(SIZE):
        for column in range(SIZE):
            if top <= row < bottom and left <= column < right:
                whole[row, column] = seen[row - top, column - left]
    scaled = (whole - whole.min()) / (whole.max() - whole.min())
    cut = np.sort(scaled.ravel())[SIZE * SIZE // 2] if threshold is None else threshold
    inside = outside = marked = 0
    for row in range(SIZE):
        for column in range(SIZE):
            hit = scaled[row, column] >= cut
            in_box = (
                math.floor(box[0] * SIZE) <= column < math.floor(box[2] * SIZE)
                and math.floor(box[1] * SIZE) <= row < math.floor(box[3] * SIZE)
            )  # fmt: skip
            marked += in_box
            inside += hit and in_box
            outside += hit and not in_box
    return inside / (marked + outside)


@pytest.mark.parametrize("fit", RESIZE_MODES)
@pytest.mark.parametrize("shape", [(64, 128), (96, 64), (64, 64)])
@pytest.mark.parametrize("threshold", [None, 0.7])
def test_maps_of_files_are_what_a_naive_loop_says(localise, fit, shape, threshold):
    similarity = np.random.default_rng(5).uniform(-0.9, 0.9, (4, 5))
    box = (0.125, 0.25, 0.75, 0.875)
    result = localise(similarity, shape, fit, box, threshold)
    iou = naive_iou(similarity, shape, fit, box, threshold)
    assert result.samples["all"].columns["ciou"] == [iou]
    assert 0 < iou < 1
    assert result.settings["threshold"] == ("median" if threshold is None else threshold)


RAMP = [-0.6, -0.2, 0.2, 0.6]  # rises all the way, also between the places


@pytest.mark.parametrize(
    ("similarity", "shape", "fit", "box", "iou"),
    [
        # The upper half of the map is the right half of the picture, of which a half is marked.
        ([RAMP] * 4, (64, 64), "pad", (0.75, 0, 1, 1), 1 / 2),
        ([RAMP] * 4, (64, 128), "pad", (0.75, 0, 1, 1), 1 / 2),
        # Or its lower half: with a half of the marked area, of which as much lies above.
        (np.transpose([RAMP] * 4), (128, 64), "pad", (0, 0.25, 1, 0.75), 1 / 3),
        # Of a picture four times as wide as high, padded, the grid's middle two rows are seen; the
        # margins, which are as similar as can be, are no part of it.
        ([[0.9] * 4, *[RAMP] * 6, [0.9] * 4], (32, 128), "pad", (0.5, 0, 1, 0.5), 1 / 2),
        # Cropped to its middle, whose left edge and all that is unseen are least similar: more than
        # half of the picture, so that the median predicts all of it.
        ([RAMP] * 4, (64, 128), "crop", (0.5, 0, 0.75, 1), 1 / 4),
    ],
)
def test_ious_worked_by_hand(localise, similarity, shape, fit, box, iou):
    result = localise(similarity, shape, fit, box)
    assert result.samples["all"].columns["ciou"] == [iou]
    # The area under one sample's success: trapezoids of 1 up to its cIoU's last step, then 0.
    steps = math.floor(iou * 20 + 1e-9)
    assert result.figures["all"] == {
        "success at 0.5": iou >= 0.5,
        "AUC": pytest.approx((steps + 0.5) / 20, abs=1e-15),
        "mean cIoU": iou,
    }
