from __future__ import annotations

from pathlib import Path

import pytest

from features.datasets import READERS, read_annotations
from features.datasets.annotations import Sample
from features.datasets.pairs import Pair, read_pairs
from features.errors import UserError
from tests.features.datasets.layouts import (
    AVE,
    ESC50,
    EXTENDED,
    MODELNET40,
    MODELNET40_NAMES,
    MUSIC,
    VGGSS,
    flickr,
    write,
)


def test_vggss(tmp_path):
    read = read_annotations("vggss", write(tmp_path / "vggss.json", VGGSS))
    elk, coyote, tambourine = read.samples
    name = "zpWuikVorYg_000032"
    assert elk == Sample(name, name, name, "elk bugling", [(0.25, 0.25, 0.5, 0.75)])
    assert coyote.boxes == [(0.125, 0.125, 0.5, 0.875), (0.75, 0.25, 1.0, 0.5)]
    assert tambourine.boxes == []
    assert (read.agreed, read.has_boxes) == (1, True)
    assert list(read.classes) == ["coyote howling", "elk bugling", "playing tambourine"]
    assert read.notes == [f"boxes without an area, left out ({read.path}): 1"]


def test_music_solo(tmp_path):
    read = read_annotations("music-solo", write(tmp_path / "solotest.json", MUSIC))
    cello, nobody = read.samples
    assert (cello.image, cello.audio, cello.label) == (
        "4Oy5VmaacaI_0_1000/frame_013/00411.jpg", "4Oy5VmaacaI_0_1000/013", "cello"
    )  # fmt: skip
    assert cello.boxes == [(0.25, 0.0, 0.625, 0.25)]  # left, top, width, height in the file
    assert cello.group == "4Oy5VmaacaI_0_1000"  # frames of one video are drawn together
    assert (nobody.boxes, nobody.label) == ([], None)


def test_flickr_soundnet(tmp_path):
    write(tmp_path / "10000130166.xml", flickr((0, 0, 128, 256), (64, 0, 256, 128)))
    write(tmp_path / "10007936344.xml", flickr((32, 32, 64, 64)))
    read = read_annotations("flickr-soundnet", tmp_path)
    assert [one.id for one in read.samples] == ["10000130166", "10007936344"]
    assert read.samples[0].boxes == [(0, 0, 0.5, 1), (0.25, 0, 1, 0.5)]
    assert read.agreed == 2


def test_ave(tmp_path):
    read = read_annotations("ave", write(tmp_path / "Annotations.txt", AVE))
    assert [(one.id, one.label) for one in read.samples] == [
        ("RUhOCu3LNXM", "Church bell"),
        ("0giAfYq9oVM", "Male speech, man speaking"),
        ("VWi2ENBuTbw", "Church bell"),
    ]
    assert read.notes == [
        f"events of another category than their video's first, left out ({read.path}): 1"
    ]
    bare = write(tmp_path / "testSet.txt", AVE.partition("\n")[2])  # as the splits come
    assert read_annotations("ave", bare).samples == read.samples


def test_esc50(tmp_path):
    read = read_annotations("esc50", write(tmp_path / "esc50.csv", ESC50))
    assert [(one.id, one.label) for one in read.samples] == [
        ("1-100032-A-0.wav", "dog"), ("1-100038-A-14.wav", "chirping_birds")
    ]  # fmt: skip
    assert list(read.classes) == ["chirping_birds", "dog"]


def test_modelnet40(tmp_path):
    path = write(tmp_path / "modelnet40_test.txt", MODELNET40)
    alone = read_annotations("modelnet40", path)
    assert list(alone.classes) == ["airplane", "night_stand"]
    write(tmp_path / "modelnet40_shape_names.txt", MODELNET40_NAMES)
    read = read_annotations("modelnet40", path)
    assert [(one.id, one.label) for one in read.samples] == [
        ("airplane_0627", "airplane"), ("night_stand_0201", "night_stand")
    ]  # fmt: skip
    assert list(read.classes) == ["airplane", "bathtub", "night_stand"]


def test_extended_sets(tmp_path):
    elk, coyote = "zpWuikVorYg_000032", "ORaz32CQ29k_000130"
    expected = [Pair(elk, elk, True), Pair(elk, coyote, False)]
    path = write(tmp_path / "vggss_test_plus_silent.csv", EXTENDED)
    assert read_pairs(path)[0] == expected
    path = write(tmp_path / "bare.csv", EXTENDED.partition("\n")[2])
    assert read_pairs(path)[0] == expected


def test_boxes_of_ones_own(tmp_path):
    path = write(
        tmp_path / "boxes.csv",
        "image,audio,left,top,right,bottom,label\n"
        "a.png,s.wav,0,0,0.5,0.5,dog\na.png,s.wav,0.5,0.5,1,1.5,dog\nb.png,,,,,,\n",
    )
    read = read_annotations("boxes", path)
    assert list(read.samples) == [
        Sample("a.png s.wav", "a.png", "s.wav", "dog", [(0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)]),
        Sample("b.png", "b.png", "b.png", None, []),
    ]
    assert read.notes == [f"boxes that reach beyond the picture, cut to it ({path}): 1"]


def test_the_same_file_has_the_same_fingerprint_and_another_another(tmp_path):
    one = read_annotations("vggss", write(tmp_path / "a.json", VGGSS))
    same = read_annotations("vggss", write(tmp_path / "b.json", VGGSS))
    other = read_annotations("vggss", write(tmp_path / "c.json", VGGSS[:1]))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def vggss(**changed: object) -> list[dict[str, object]]:
    return [{**VGGSS[0], **changed}]


def music(**changed: object) -> dict[str, object]:
    frame = {"bbox": [], "wdith": 640, "height": 360}
    return {"v/frame_1/2.jpg": {**frame, **changed}}


def marked(normbox: object, category: object = 1) -> dict[str, object]:
    return music(bbox=[{"box": [0, 0, 1, 1], "normbox": normbox, "category_id": category}])


HEADER = "filename,fold,target,category,esc10,src_file,take"
BAD = {
    "no such data set": ("imagenet", "x", "'imagenet' is not a data set that is known: use one of"),
    "missing": ("vggss", None, "does not exist: check the path"),
    "not JSON": ("vggss", "[{", "is not JSON (Expecting"),
    "not a list": ("vggss", MUSIC, "is not a list of objects, as vggss.json is"),
    "empty list": ("vggss", [], "has no samples: check the path"),
    "unknown field": (
        "vggss", vggss(score=1),
        "has the unknown field score; its layout has file, class, bbox: check --dataset and the",
    ),
    "missing field": ("vggss", [{"file": "a", "class": "b"}], "entry 1 of {path} lacks bbox;"),
    "repeated": ("vggss", [VGGSS[0], VGGSS[0]], "has zpWuikVorYg_000032 twice: keep one of them"),
    "pixels": ("vggss", vggss(bbox=[[12, 7, 200, 90]]), "lies outside of the picture, whose edges"),
    "pixels from the corner": (
        "vggss", vggss(bbox=[[0, 0, 32, 32]]),
        "the box [0, 0, 32, 32] of zpWuikVorYg_000032 reaches far beyond the picture, whose edges",
    ),
    "left of it": ("vggss", vggss(bbox=[[-2, 0, -1, 1]]), "lies outside of the picture"),
    "turned": ("vggss", vggss(bbox=[[0.5, 0, 0.1, 1]]), "of zpWuikVorYg_000032 ends before it"),
    "three edges": ("vggss", vggss(bbox=[[0, 0, 1]]), "is not four finite numbers"),
    "not a number": ("vggss", '[{"file": "a", "class": "b", "bbox": [[0, 0, NaN, 1]]}]', "finite"),
    "a flat box": (
        "vggss", vggss(bbox=[0.1, 0.1, 0.5, 0.5]), "the box 0.1 of zpWuikVorYg_000032 is not four"
    ),
    "no list of boxes": (
        "vggss", vggss(bbox=None),
        "the boxes of zpWuikVorYg_000032 in {path} are null, not a list of boxes: mend or remove",
    ),
    "a box of null": ("vggss", vggss(bbox=[None]), "the box null of zpWuikVorYg_000032 is not"),
    "an edge of null": ("vggss", vggss(bbox=[[0, None, 1, 1]]), "the box [0, null, 1, 1] of zp"),
    "an edge that is true": ("vggss", vggss(bbox=[[0, 0, True, 1]]), "is not four finite numbers"),
    "beyond all floats": ("vggss", vggss(bbox=[[0, 0, 10**400, 1]]), "is not four finite numbers"),
    "words": ("vggss", vggss(bbox=[["0", "0", "1", "1"]]), "is not four finite numbers"),
    "a list for music": ("music-solo", VGGSS, "is not an object of frames, as solotest.json is"),
    "another frame": (
        "music-solo", {"a.jpg": MUSIC["5_NsbkyLO2Q_0_1000/frame_000/00014.jpg"]},
        "a.jpg in {path} does not read VIDEO/frame_SECOND/NUMBER.jpg",
    ),
    "unknown field of music": (
        "music-solo", {"v/frame_1/2.jpg": {"bbox": [], "width": 1, "height": 1}},
        "has the unknown field width and lacks wdith",
    ),
    "a box without a class": (
        "music-solo",
        {"v/frame_1/2.jpg": {"bbox": [{"normbox": [0, 0, 1, 1]}], "wdith": 1, "height": 1}},
        "a box of v/frame_1/2.jpg in {path} lacks box, category_id",
    ),
    "no list of boxes of music": (
        "music-solo", music(bbox=None),
        "the boxes of v/frame_1/2.jpg in {path} are null, not a list of boxes: mend or remove",
    ),
    "a null in a normbox": (
        "music-solo", marked([0, 0, None, 1]),
        "a normbox of v/frame_1/2.jpg in {path} is [0, 0, null, 1], not the four numbers left,",
    ),
    "a normbox of words": (
        "music-solo", marked(["0.1", "0.1", "0.5", "0.5"]),
        'a normbox of v/frame_1/2.jpg in {path} is ["0.1", "0.1", "0.5", "0.5"], not the four',
    ),
    "a normbox of null": ("music-solo", marked(None), "is null, not the four numbers left, top"),
    "classes in a list": (
        "music-solo", marked([0, 0, 1, 1], [1]),
        "a category_id of v/frame_1/2.jpg in {path} is [1], not the number of a class",
    ),
    "commas in AVE": ("ave", "Bark,0giAfYq9oVM,good,0,2\n", "has 1 fields between &, not the 5"),
    "no seconds": ("ave", "Bark&0giAfYq9oVM&good&start&2\n", "is from 'start' to '2'"),
    "a header alone": ("ave", AVE.partition("\n")[0], "has a header alone: download it again"),
    "nothing": ("ave", "\n\n", "has no line that is not empty"),
    "another table": ("esc50", "filename,label\na.wav,dog\n", "the unknown field label and lacks"),
    "one column more": ("esc50", f"{HEADER},gain\na,1,0,dog,True,1,A,2\n", "unknown field gain;"),
    "a sound twice": ("esc50", ESC50 + ESC50.splitlines()[1], "has 1-100032-A-0.wav twice"),
    "no number": ("modelnet40", "airplane\n", "is 'airplane', not CLASS_NUMBER"),
    "a file for Flickr": ("flickr-soundnet", "x", "is not a folder: Flickr-SoundNet has a folder"),
    "an edge that is a word": (
        "boxes", "image,left,top,right,bottom\na,0,0,half,1\n", "could not convert string to float"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_files_in_another_layout_are_refused(case, tmp_path):
    dataset, content, sentence = BAD[case]
    path = tmp_path / ("table.csv" if dataset in ("esc50", "boxes") else "file")
    if content is not None:
        write(path, content)
    with pytest.raises(UserError) as refused:
        read_annotations(dataset, path)
    assert sentence.format(path=path) in str(refused.value)
    assert "\n" not in str(refused.value)


BAD_XML = {
    "no files": (None, "has no .xml files: give Flickr-SoundNet's folder Annotations"),
    "not XML": ("<annotation>", "is not XML"),
    "another box": ("<a><b><bbox><x>1</x><y>2</y></bbox></b></a>", "holds x, y; Flickr-SoundNet's"),
    "a word": (flickr((1, 1, 9, 9)).replace(">9<", ">nine<"), "has an edge that is not a number"),
    "outside": (flickr((300, 0, 400, 10)), "lies outside of the picture"),
    "entities": ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares entities"),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_folders_in_another_layout_are_refused(case, tmp_path):
    content, sentence = BAD_XML[case]
    if content is not None:
        write(tmp_path / "10000130166.xml", content)
    with pytest.raises(UserError, match=sentence):
        read_annotations("flickr-soundnet", tmp_path)


def test_a_class_that_the_names_do_not_have_is_refused(tmp_path):
    write(tmp_path / "modelnet40_shape_names.txt", "airplane\n")
    path = write(tmp_path / "modelnet40_test.txt", MODELNET40)
    with pytest.raises(
        UserError, match=r"of the class 'night_stand', which .*modelnet40_shape_names"
    ):
        read_annotations("modelnet40", path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a,b\n", "has 2 fields, not picture, sound and sounding"),
        (
            "a,a,sounding\na,b,silent\n",
            "line 2 of .* is 'silent', neither sounding nor non-sounding",
        ),
        ("a,a,sounding\na,a,sounding\n", "line 2 of .* repeats a and a"),
        (
            "a,b,sounding\nc,c,sounding\na,b,non-sounding\n",
            "line 3 of .* says that a with b is non-sounding, a line before it the opposite: keep",
        ),
        ("video,audio,type\n", "has a header alone"),
    ],
)
def test_pairs_in_another_layout_are_refused(content, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        read_pairs(write(tmp_path / "pairs.csv", content))


def test_every_reader_is_there():
    for dataset in READERS:
        with pytest.raises(UserError, match=r"does not exist|is not a folder"):
            read_annotations(dataset, Path("nowhere.csv"))
