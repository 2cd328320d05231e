"""Counterfactual recognition of pictures that have several sounds.

At its median, a map of two values or fewer predicts all of the picture, so that the cIoU of a
sample is the area of its boxes, and tells whose they are.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from bridge.evaluation.counterfactual import counterfactual_result
from bridge.evaluation.picture_maps import LocalMaps
from features.datasets import read_annotations
from features.datasets.pairs import Pair
from features.errors import UserError
from tests.bridge.evaluation.placed import cell_box, exact_pictures, exact_sounds

ONE, TWO, THREE = (cell_box(0, columns=count) for count in (1, 2, 3))  # sixteenths


def row(image: str, audio: str, box: tuple[float, ...] | None = None) -> str:
    return ",".join([image, audio, *map(str, box or [""] * 4)])


@pytest.fixture
def evaluate(tmp_path):
    """The result on a table of these rows, and of these pairs."""
    maps = LocalMaps(exact_pictures(tmp_path / "pictures.h5"), None, upsampling="nearest")
    sounds = exact_sounds(tmp_path / "sounds.h5")
    path = tmp_path / "boxes.csv"

    def result(rows, pairs=None):
        path.write_text("\n".join(["image,audio,left,top,right,bottom", *rows]) + "\n")
        annotations = read_annotations("boxes", path)
        return counterfactual_result(maps, sounds, annotations, pairs, resamples=0)

    return result


def ious(result) -> dict[str, float]:
    """cIoU of the sounding samples, by picture and sound."""
    part = result.samples["all"]
    columns = zip(part.ids, part.columns["sounding"], part.columns["ciou"], strict=True)
    return {name: iou for name, sounding, iou in columns if sounding}


@pytest.mark.parametrize("order", permutations(range(3)))
def test_a_picture_with_its_own_sound_and_a_foreign_one(evaluate, order):
    rows = [row("7", "7", ONE), row("7", "42"), row("42", "42", THREE)]
    found = evaluate([rows[i] for i in order])
    assert ious(found) == {"7 7": 1 / 16, "42 42": 3 / 16}
    assert found.counts == {"sounding samples": 2, "silent samples": 1}


@pytest.mark.parametrize("order", permutations(range(3)))
@pytest.mark.parametrize("listed", [False, True])
def test_each_sound_of_a_picture_has_its_own_boxes(evaluate, order, listed):
    rows = [row("7", "7", ONE), row("7", "42", TWO), row("7", "9")]
    pairs = [Pair("7", "7", True), Pair("7", "42", True), Pair("7", "9", False)]
    found = evaluate([rows[i] for i in order], pairs if listed else None)
    assert ious(found) == {"7 7": 1 / 16, "7 42": 2 / 16}


@pytest.mark.parametrize("order", permutations(range(2)))
def test_a_pair_that_is_annotated_without_a_box_is_left_out(evaluate, order):
    rows = [row("7", "7", ONE), row("7", "9")]
    pairs = [Pair("7", "7", True), Pair("7", "9", True), Pair("7", "42", False)]
    found = evaluate([rows[i] for i in order], pairs)
    assert found.counts["sounding samples without a box"] == 1
    assert ious(found) == {"7 7": 1 / 16}


@pytest.mark.parametrize("order", permutations(range(2)))
def test_a_sound_that_is_not_annotated_has_the_boxes_of_its_picture(evaluate, order):
    pairs = [Pair("7.png", "7", True), Pair("7", "42", False)]
    rows = [row("frames/7.jpg", "elsewhere.wav", ONE), row("frames/7.jpg", "rain.wav")]
    found = evaluate([rows[i] for i in order], pairs)
    assert ious(found) == {"7.png 7": 1 / 16}


@pytest.mark.parametrize("order", permutations(range(2)))
def test_boxes_that_could_be_of_either_sound_are_refused(evaluate, order):
    rows = [row("7", "bark.wav", ONE), row("7", "bell.wav", TWO)]
    pairs = [Pair("7", "7", True), Pair("7", "42", False)]
    first, second = (("bark.wav", "bell.wav")[i] for i in order)
    with pytest.raises(
        UserError,
        match=rf"has other boxes in 7 for {first} than for {second}, and none for 7, which the "
        r"pairs say sounds: add its boxes",
    ):
        evaluate([rows[i] for i in order], pairs)
    same = [row("7", "bark.wav", ONE), row("7", "bell.wav", ONE)]
    assert ious(evaluate([same[i] for i in order], pairs)) == {"7 7": 1 / 16}


BOTH = (
    r"^{} with {} is said to sound, and {} with {} to be silent, but they are the same picture and "
    r"sound: keep one of them$"
)


@pytest.mark.parametrize("order", permutations(range(3)))
def test_a_pair_that_both_sounds_and_is_silent_is_refused(evaluate, order):
    rows = [row("7", "7", ONE), row("42", "42", THREE)]
    # Both names are of the memories' items called 7.
    pairs = [Pair("7.png", "7", True), Pair("7.jpg", "7.wav", False), Pair("42", "7", False)]
    with pytest.raises(UserError, match=BOTH.format("7.png", "7", "7.jpg", "7.wav")):
        evaluate(rows, [pairs[i] for i in order])


def test_a_silent_pair_that_the_annotations_say_sounds_is_refused(evaluate):
    rows = [row("7.png", "7", ONE), row("42", "42", THREE)]
    with pytest.raises(UserError, match=BOTH.format("7.png", "7", "7", "7")):
        evaluate(rows, [Pair("7", "7", False), Pair("42", "7", False)])


def test_the_same_picture_may_sound_with_one_sound_and_be_silent_with_another(evaluate):
    rows = [row("7", "7", ONE)]
    found = evaluate(rows, [Pair("7", "7", True), Pair("7", "42", False), Pair("42", "7", False)])
    assert found.counts == {"sounding samples": 1, "silent samples": 2}
