"""Localisation and counterfactual recognition where every answer is known to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bridge.evaluation.counterfactual import counterfactual_result
from bridge.evaluation.localisation import localisation_result
from bridge.evaluation.picture_maps import CropMaps, LocalMaps
from bridge.evaluation.views import View, view_of
from features.datasets import read_annotations
from features.datasets.pairs import Pair
from features.errors import UserError
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import save_memory, write_memory
from tests.bridge.evaluation.placed import (
    CELLS,
    NUMBERS,
    SQUASH,
    cell_box,
    exact_pictures,
    exact_sounds,
    write_boxes,
)

RIGHT = {number: [cell_box(cell)] for number, cell in zip(NUMBERS, CELLS, strict=True)}


@pytest.fixture
def exact(tmp_path):
    """Maps and sounds, and a function that writes boxes."""
    maps = LocalMaps(exact_pictures(tmp_path / "pictures.h5"), None, upsampling="nearest")
    sounds = exact_sounds(tmp_path / "sounds.h5")

    def annotate(boxes, audio=None):
        return read_annotations("boxes", write_boxes(tmp_path / "boxes.csv", boxes, audio or {}))

    return maps, sounds, annotate


def figures(result):
    (part,) = result.figures.values()
    return part


def test_numbers_are_found_exactly_where_they_are(exact):
    maps, sounds, annotate = exact
    result = localisation_result(maps, sounds, annotate(RIGHT), threshold=0.5)
    assert figures(result) == {"success at 0.5": 1.0, "AUC": 1.0, "mean cIoU": 1.0}
    assert result.counts == {"samples": 4}


def test_what_is_predicted_beside_a_box_costs_what_it_covers(exact):
    maps, sounds, annotate = exact
    boxes = {
        "7": [cell_box(0)],  # itself: 1
        "42": [cell_box(5, rows=1, columns=2)],  # half of what is marked: 1/2
        "365": [cell_box(10, rows=2, columns=2)],  # a quarter: 1/4
        "9": [cell_box(0)],  # elsewhere: 0
    }
    result = localisation_result(maps, sounds, annotate(boxes), threshold=0.5)
    ious = [1.0, 0.5, 0.25, 0.0]
    assert result.samples["all"].columns["ciou"] == ious
    # By hand: trapezoids of shares 1, then 3/4 to 0.25, 1/2 to 0.5, 1/4 to 1, in twentieths.
    by_hand = (1 + 0.75) / 2 + 4 * 0.75 + (0.75 + 0.5) / 2 + 4 * 0.5 + (0.5 + 0.25) / 2 + 9 * 0.25
    assert figures(result) == {
        "success at 0.5": 0.5,
        "AUC": pytest.approx(by_hand / 20, abs=1e-15),
        "mean cIoU": 1.75 / 4,
    }


def test_the_median_of_a_map_with_two_values_predicts_all_of_the_picture(exact):
    maps, sounds, annotate = exact
    result = localisation_result(maps, sounds, annotate(RIGHT))
    # 15 of 16 cells are equally unlikely, so the median is theirs: 1 cell of 16 is right.
    assert result.samples["all"].columns["ciou"] == [1 / 16] * 4
    assert result.settings["threshold"] == "median"


def test_samples_without_a_box_or_a_file_are_left_out_and_counted(exact):
    maps, sounds, annotate = exact
    boxes = {
        **RIGHT, "9": [], "77": [cell_box(1)], "365": [(0.0, 0.0, 0.001, 0.001)],
        "42": [cell_box(5)],
    }  # fmt: skip
    annotations = annotate(boxes, {"42": "no such sound"})
    result = localisation_result(maps, sounds, annotations, threshold=0.5)
    assert result.counts == {
        "samples": 1,
        "samples without a box": 1,
        "samples whose boxes hold no pixel": 1,
        "samples without their picture": 1,
        "samples without their sound": 1,
    }
    assert figures(result)["success at 0.5"] == 1


def test_counterfactuals_are_right_to_the_last_digit(tmp_path):
    maps = LocalMaps(exact_pictures(tmp_path / "pictures.h5"), None, upsampling="nearest")
    sounds = exact_sounds(tmp_path / "sounds.h5", clearness=0.6)  # 0.8 towards empty paper
    annotations = read_annotations(
        "boxes",
        write_boxes(
            tmp_path / "boxes.csv",
            {"7": [cell_box(0)], "42": [cell_box(5)], "365": [cell_box(0)], "9": []},
            {"9": "7"},
        ),
    )
    # With 0.8 of empty paper, each cell but the number's is 0.8 and the number's 0.6; of a sound
    # that is not in the picture it is 0. So the top quarter is 0.8 of all: one threshold.
    result = counterfactual_result(maps, sounds, annotations, threshold=0.5)
    assert result.samples["all"].columns["confidence"] == pytest.approx([0.8] * 4)
    assert result.samples["all"].columns["ciou"] == [0.0, 0.0, 1 / 15, 0.0]
    assert figures(result) == {"AP": 0.0, "max-F1": 0.0, "LocAcc": 0.0}


def test_confidence_tells_what_sounds_from_what_does_not(exact):
    maps, sounds, annotate = exact
    # Three numbers sound, one of them marked in a wrong place; one picture has another's sound.
    boxes = {"7": [cell_box(0)], "42": [cell_box(5)], "365": [cell_box(0)], "9": []}
    result = counterfactual_result(maps, sounds, annotate(boxes, {"9": "7"}), threshold=0.5)
    columns = result.samples["all"].columns
    # A quarter of the picture is 4 cells: the number's with 1 and three empty ones with 0.
    assert columns["confidence"] == [0.25, 0.25, 0.25, 0.0]
    assert columns["ciou"] == [1.0, 1.0, 0.0, 0.0]
    # At 0.25: 2 right, 1 in the wrong place, none missed: precision 2/3, recall 1.
    assert figures(result) == {"AP": 2 / 3, "max-F1": 0.8, "LocAcc": 2 / 3}
    assert result.counts["sounding samples"] == 3
    assert result.counts["silent samples"] == 1


def test_pairs_of_an_extended_set(exact):
    maps, sounds, annotate = exact
    silent = [Pair("7", "42", False), Pair("42", "9", False)]
    annotations = annotate({number: RIGHT[number] for number in NUMBERS[:3]})
    both = counterfactual_result(
        maps, sounds, annotations, [Pair("7", "7", True), Pair("9", "9", True), *silent],
        threshold=0.5,
    )  # fmt: skip
    assert both.counts["sounding samples without a box"] == 1  # 9 is not annotated
    assert figures(both) == {"AP": 1.0, "max-F1": 1.0, "LocAcc": 1.0}
    # A list of silent ones alone is added to the annotated samples.
    added = counterfactual_result(maps, sounds, annotations, silent, threshold=0.5)
    assert (added.counts["sounding samples"], added.counts["silent samples"]) == (3, 2)


def test_crops_are_windows_of_the_picture(tmp_path):
    rows = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    crops = save_memory(
        tmp_path / "crops.h5", rows, ["a/0.png", "a/1.png", "a/2.png", "b/0.png"],
        space="exact", modality="image", encoder=SQUASH,
    )  # fmt: skip
    (tmp_path / "regions.csv").write_text(
        "path,image,left,top,right,bottom\n"
        "a/0.png,a.png,0,0,0.5,1\na/1.png,a.png,0.25,0,1,0.5\na/2.png,a.png,0,0,1,0.25\n"
        "b/0.png,b.png,0,0,1,1\n"
    )
    maps = CropMaps(crops, tmp_path / "regions.csv", None, size=4)
    query = torch.tensor([0.6, 0.8, 0.0])
    number = maps.find("a")
    assert number is not None
    upper, lower = [0.6, 0.8, 0.8, 0.8], [0.6] * 4  # below on the right no crop: the least there is
    assert maps.map(number, query).flatten().tolist() == pytest.approx(2 * upper + 2 * lower)


@pytest.mark.parametrize(
    ("fit", "size", "window"),
    [
        ("squash", (100, 300), (0, 0, 1, 1)),
        ("crop", (100, 200), (0.25, 0, 0.75, 1)),
        ("crop", (300, 100), (0, 1 / 3, 1, 2 / 3)),
        ("pad", (100, 200), (0, -0.5, 1, 1.5)),
        ("pad", (64, 64), (0, 0, 1, 1)),
    ],
)
def test_what_encoders_see_of_pictures(fit, size, window):
    assert View((7, 7), fit, (224, 224)).window(*size) == pytest.approx(window)


def test_a_cropped_picture_is_unlikely_outside_of_the_crop(tmp_path):
    Image.new("L", (20, 10)).save(tmp_path / "wide.png")
    encoder = {"preprocessing": {"image": {"size": [8, 8], "resize_mode": "shortest"}}}
    header = MemoryHeader(
        "exact", "image", 2, "float32", encoder, root=str(tmp_path), local_length=4
    )
    cells = np.array([[[1, 0], [0, 1], [0, 1], [0.6, 0.8]]], dtype=np.float32)
    memory = write_memory(
        tmp_path / "wide.h5", header, Columns(["wide.png"]), [np.array([[1, 0]], np.float32)],
        local=[(cells, np.ones((1, 4), np.uint8))],
    )  # fmt: skip
    maps = LocalMaps(memory, None, upsampling="nearest", size=8)
    found = maps.map(0, torch.tensor([1.0, 0.0]))
    assert found[0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert found[7].tolist() == pytest.approx([0, 0, 0, 0, 0.6, 0.6, 0, 0])


def test_the_grid_of_a_mini_encoder_is_known(tmp_path):
    encoder = {"preprocessing": {"image_height": 32, "image_width": 64}}
    header = MemoryHeader("mini-clip", "image", 2, "float32", encoder, local_length=32)
    parts = np.zeros((1, 32, 2), dtype=np.float32)
    parts[..., 0] = 1
    memory = write_memory(
        tmp_path / "mini.h5", header, Columns(["a"]), [np.array([[1, 0]], np.float32)],
        local=[(parts, np.ones((1, 32), np.uint8))],
    )  # fmt: skip
    assert view_of(memory) == View((4, 8), "pad", (32, 64))


def other(tmp_path):
    rows = np.eye(2, dtype=np.float32)
    return save_memory(tmp_path / "other.h5", rows, ["x", "y"], space="else", modality="audio")


def plain(tmp_path) -> Memory:
    return exact_pictures(tmp_path / "plain.h5", local=False)


def unfit(tmp_path) -> Memory:
    header = MemoryHeader("exact", "image", 2, "float32", {}, local_length=4)
    parts = np.zeros((1, 4, 2), dtype=np.float32)
    parts[..., 0] = 1
    return write_memory(
        tmp_path / "unfit.h5", header, Columns(["a"]), [np.array([[1, 0]], np.float32)],
        local=[(parts, np.ones((1, 4), np.uint8))],
    )  # fmt: skip


REFUSED = {
    "no local embeddings": (
        lambda _, t: LocalMaps(plain(t), None),
        r"plain.h5 has no local embeddings, which say where things are: make them with `mcr "
        r"extract --local`, or cut the pictures with `mcr crops`",
    ),
    "another grid": (
        lambda e, _: LocalMaps(e[0].memory, None, grid=(3, 5)),
        r"has 16 local embeddings of each picture, which are not 3 x 5: say how many rows",
    ),
    "an unknown fit": (
        lambda _, t: LocalMaps(unfit(t), None), r"does not say how its encoder fits pictures"
    ),
    "a wrong fit": (
        lambda _, t: LocalMaps(unfit(t), None, fit="stretch"), r"there is no fit 'stretch'"
    ),
    "no boxes": (
        lambda e, _: localisation_result(e[0], e[1], e[2]({"7": []})), r"has no boxes, so there is"
    ),
    "other names": (
        lambda e, _: localisation_result(e[0], e[1], e[2]({"frame 1": [cell_box(0)]})),
        r"no sample of .* \(frame 1, frame 1, ...\) can be measured on .*: 1 samples without their "
        r"picture; extract the files under their authors' names",
    ),
    "another space": (
        lambda e, t: localisation_result(e[0], other(t), e[2](RIGHT)),
        r"of the space exact \(5-d\) and .* of else \(2-d\), which cannot be compared: name the",
    ),
    "nothing silent": (
        lambda e, _: counterfactual_result(e[0], e[1], e[2](RIGHT)),
        r"all 4 samples of .* sound, so there is nothing to be wrong about",
    ),
    "nothing sounding": (
        lambda e, _: counterfactual_result(e[0], e[1], e[2]({"7": []})),
        r"none of the 1 samples sounds with a box in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_localised_is_refused(case, exact, tmp_path):
    make, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        make(exact, tmp_path)
