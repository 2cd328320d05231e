from __future__ import annotations

import pytest

from features.datasets.matching import RowsByName
from features.errors import UserError

IDS = [
    "frames/zpWuikVorYg_000032.jpg",
    "video/a/frame_001/00411.jpg",
    "video/b/frame_001/00411.jpg",
    "1-100032-A-0.wav",
]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("zpWuikVorYg_000032", 0),
        ("zpWuikVorYg_000032.jpg", 0),
        ("zpWuikVorYg_000032.png", 0),
        ("frames/zpWuikVorYg_000032", 0),
        ("a/frame_001/00411.jpg", 1),
        ("b/frame_001/00411", 2),
        ("1-100032-A-0.wav", 3),
        ("1-100032-A-0", 3),
        ("uikVorYg_000032", None),  # an ending, but not from a / on
        ("c/frame_001/00411.jpg", None),
    ],
)
def test_names_are_endings_of_ids(name, row):
    assert RowsByName(IDS).find(name) == row


def test_a_name_of_several_items_is_refused():
    with pytest.raises(UserError, match=r"is that of several items, video/a/.* and video/b/"):
        RowsByName(IDS).find("00411.jpg")


def test_a_full_id_is_itself_even_if_it_ends_another():
    assert RowsByName(["a/b.wav", "b.wav"]).find("a/b.wav") == 0
    assert RowsByName(["b.wav", "a/b.wav"]).find("b.wav") == 0
