"""`mcr eval PROTOCOL`: a command each, with a table, JSON and a result; `mcr compare` of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from features import keypad
from features.memories.memory import Memory
from tests.bridge.evaluation.placed import (
    CELLS,
    NUMBERS,
    cell_box,
    exact_pictures,
    exact_sounds,
    write_boxes,
    write_pictures,
)
from tests.cli.conftest import NUMBERS as SHOP_NUMBERS
from tests.cli.conftest import answer, done, mcr
from tests.cli.refusals import refused

BOXES = {f"{number}.png": [cell_box(cell)] for number, cell in zip(NUMBERS, CELLS, strict=True)}
OWN_SOUND = {f"{number}.png": number for number in NUMBERS}


def retrieval(workshop, *more: object) -> tuple[object, ...]:
    return (
        "eval", *more, "-b", workshop.sound_bridge, "-q", workshop.memory("sounds"),
        "-g", workshop.memory("images"), "--device", "cpu",
    )  # fmt: skip


def test_options_alone_are_those_of_retrieval(workshop):
    assert answer(*retrieval(workshop)) == answer(*retrieval(workshop, "retrieval"))
    assert mcr("eval", "--help").exit_code == 0
    assert mcr("eval", "translation").exit_code == 2
    assert "Usage" in mcr("eval", "-q", workshop.memory("sounds")).stderr


def test_retrieval_writes_a_result_that_names_what_it_was_made_of(workshop, tmp_path):
    out = tmp_path / "result.json"
    result = done(*retrieval(workshop, "retrieval"), "-o", out, "--resamples", 100, "--seed", 5)
    told = json.loads(out.read_text())
    memory = Memory(workshop.memory("sounds"))
    assert told["memories"]["query"]["fingerprint"] == memory.fingerprint
    assert told["bridge"]["name"] == workshop.sound_bridge.name
    assert (told["protocol"], told["seed"], told["resamples"]) == ("retrieval", 5, 100)
    lines = result.stdout.splitlines()
    assert lines[-1] == f"written to {out}"
    forward, backward = lines[4:6]
    assert forward.startswith("95 % of 100 resamples, audio -> image: R@1 ")
    assert backward.startswith("95 % of 100 resamples, image -> audio: R@1 ")
    low, high = told["intervals"]["audio -> image"]["mAP"]
    assert forward.endswith(f"mAP {low:.3f} to {high:.3f}")


def test_without_a_place_results_lie_in_the_bridges_folder(workshop):
    told = answer(*retrieval(workshop, "retrieval", "--relevance", "labels"))
    path = Path(told["result"])
    assert path.parent == workshop.sound_bridge / "results"
    assert re.fullmatch(r"retrieval-[0-9a-f]{8}\.json", path.name)


def zero_shot(workshop, *more: object) -> tuple[object, ...]:
    return (
        "eval", "zero-shot", "-b", workshop.sound_bridge, "-i", workshop.memory("sounds"),
        "--device", "cpu", "--resamples", 50, *more,
    )  # fmt: skip


def test_zero_shot_with_the_first_templates(workshop, tmp_path):
    templates = tmp_path / "templates.txt"
    templates.write_text("\n".join(keypad.TEMPLATES))
    arguments = zero_shot(workshop, "--templates", templates, "--first", 1, "--first", 6)
    told = answer(*arguments, "--via", "sees")
    assert list(told["figures"]) == ["1 template", "6 templates"]
    assert told["counts"]["classes"] == len(set(SHOP_NUMBERS))
    assert told["settings"]["text through"] == "sees"
    result = done(*arguments)
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["top-1", "top-3", "top-5", "per", "class"]
    assert [row.split("  ")[0] for row in rows[:2]] == ["1 template", "6 templates"]


def test_zero_shot_embeds_files_on_the_way(workshop, tmp_path):
    table = tmp_path / "classes.csv"
    rows = "".join(f"{n},{keypad.spoken(n)}\n" for n in SHOP_NUMBERS)
    table.write_text(f"label,name\n{rows}")
    boxes = write_boxes(tmp_path / "labels.csv", {}, {})
    boxes.write_text(
        "image,left,top,right,bottom,label\n"
        + "".join(f"{n}.wav,,,,,{n}\n" for n in SHOP_NUMBERS[:5])
    )
    arguments = (
        "eval", "zero-shot", "-b", workshop.sound_bridge,
        "-i", workshop.files / "sounds", "--classes", table, "--dataset", "boxes",
        "--annotations", boxes, "--first", 1, "--device", "cpu",
    )  # fmt: skip
    told = answer(*arguments)
    made = Path(told["memories"]["items"]["path"])
    assert made.parent == workshop.sound_bridge / "results"
    assert told["counts"]["items"] == 5
    assert told["counts"]["items without a label"] == len(SHOP_NUMBERS) - 5
    before = made.stat().st_mtime_ns
    again = done(*arguments)
    assert made.stat().st_mtime_ns == before  # what is there is kept
    assert f"items without a label, left out: {len(SHOP_NUMBERS) - 5}\n" in again.stderr


@pytest.fixture(scope="module")
def placed(tmp_path_factory) -> Path:
    """Numbers in larger pictures, as files, crops and exact memories."""
    folder = tmp_path_factory.mktemp("placed")
    write_pictures(folder / "pictures")
    done("crops", folder / "pictures", "-o", folder / "crops", "--grid", "4x4", "--overlap", 0)
    done(
        "extract", folder / "crops" / "regions.csv", "-e", "mini-clip", "-m", "image",
        "--column", "path", "-o", folder / "crops.h5", "--device", "cpu",
    )  # fmt: skip
    (folder / "texts.csv").write_text(
        "text,key\n" + "".join(f"{keypad.spoken(one)},{one}\n" for one in NUMBERS)
    )
    done(
        "extract", folder / "texts.csv", "-e", "mini-clip", "-m", "text", "--id-column", "key",
        "-o", folder / "texts.h5", "--device", "cpu",
    )  # fmt: skip
    write_boxes(folder / "boxes.csv", BOXES, OWN_SOUND)
    exact_pictures(folder / "exact.h5")
    exact_pictures(folder / "swapped.h5", swapped=True)
    exact_pictures(folder / "plain.h5", local=False)
    exact_sounds(folder / "sounds.h5")
    return folder


def exact(placed: Path, name: str = "exact", boxes: str = "boxes.csv") -> tuple[object, ...]:
    return (
        "--pictures", placed / f"{name}.h5", "--sounds", placed / "sounds.h5", "--dataset", "boxes",
        "--annotations", placed / boxes, "--upsample", "nearest", "--threshold", 0.5,
        "--resamples", 100,
    )  # fmt: skip


def test_real_encoders_find_numbers_in_larger_pictures_by_crops(placed):
    told = answer(
        "eval", "localisation", "--crops", placed / "crops.h5",
        "--regions", placed / "crops" / "regions.csv", "--sounds", placed / "texts.h5",
        "--dataset", "boxes", "--annotations", placed / "boxes.csv", "--threshold", 0.99,
    )  # fmt: skip
    assert told["figures"]["all"] == {"success at 0.5": 1, "AUC": 1, "mean cIoU": 1}
    assert told["settings"]["maps"] == "crops"


def test_localisation_is_right_to_the_last_digit(placed):
    told = answer("eval", "localisation", *exact(placed))
    assert told["figures"]["all"] == {"success at 0.5": 1, "AUC": 1, "mean cIoU": 1}
    assert told["settings"] == {
        "maps": "local embeddings", "grid": "4x4", "fit": "squash", "upsampling": "nearest",
        "threshold": 0.5,
    }  # fmt: skip
    result = done("eval", "localisation", *exact(placed, "swapped"))
    header, row, written = result.stdout.splitlines()
    assert header.split("  ")[-1].strip() == "mean cIoU"
    assert re.split(r"\s{2,}", row) == [
        "all", "0.000 [0.000, 0.000]", "0.025 [0.025, 0.025]", "0.000 [0.000, 0.000]"
    ]  # fmt: skip
    assert written.startswith(f"written to {placed / 'results' / 'localisation-'}")


def test_counterfactual_recognition_is_right_to_the_last_digit(placed):
    boxes = {name: BOXES[name] for name in list(BOXES)[:3]} | {"9.png": []}
    boxes["365.png"] = [cell_box(0)]  # marked where it is not
    write_boxes(placed / "some.csv", boxes, {**OWN_SOUND, "9.png": "7"})
    told = answer("eval", "counterfactual", *exact(placed, boxes="some.csv"))
    assert told["figures"]["all"] == {"AP": 2 / 3, "max-F1": 0.8, "LocAcc": 2 / 3}
    pairs = placed / "plus_silent.csv"
    pairs.write_text("image,audio,type\n7,7,sounding\n42,9,non-sounding\n")
    told = answer("eval", "counterfactual", *exact(placed), "--pairs", pairs)
    assert told["figures"]["all"] == {"AP": 1, "max-F1": 1, "LocAcc": 1}
    assert told["files"]["pairs"]["path"] == str(pairs)


def test_diagnostics_before_and_after(workshop):
    arguments = (
        "eval", "diagnostics", workshop.memory("text-sees"), workshop.memory("text-hears"),
        "-b", workshop.sound_bridge, "--neighbours", 3, "--device", "cpu",
    )  # fmt: skip
    told = answer(*arguments)
    pair = told["figures"]["text-sees | text-hears"]
    assert {"gap after", "alignment after", "CKA before", "CKA after"} < pair.keys()
    lines = done(*arguments).stdout.splitlines()
    assert lines[0].split() == ["before", "after"]
    rows = {tuple(re.split(r"\s{2,}", line)[:2]): line.split()[-2:] for line in lines[1:-1]}
    assert rows["text-sees | text-hears", "gap"] == ["-", f"{pair['gap after']:.4f}"]
    assert rows["text-sees | text-hears", "CKA"] == [
        f"{pair['CKA before']:.4f}", f"{pair['CKA after']:.4f}"
    ]  # fmt: skip
    alone = done("eval", "diagnostics", workshop.memory("images"), "--neighbours", 3)
    assert alone.stdout.splitlines()[0].split() == ["before"]


def test_results_are_compared_sample_by_sample(placed, tmp_path):
    for name in ("exact", "swapped"):
        done("eval", "localisation", *exact(placed, name), "-o", tmp_path / f"{name}.json")
    arguments = ("compare", tmp_path / "swapped.json", tmp_path / "exact.json", "--resamples", 99)
    told = answer(*arguments)
    assert told["differences"][0]["all"]["mean cIoU"] == {
        "value": 1, "low": 1, "high": 1, "p_value": pytest.approx(0.02)
    }  # fmt: skip
    header, *lines = done(*arguments).stdout.splitlines()
    assert header.split() == ["localisation", *(str(path) for path in arguments[1:3])]
    assert re.split(r"\s{2,}", lines[0]) == ["all", "success at 0.5", "0.000", "1.000"]
    assert lines[3] == (
        f"{tmp_path / 'exact.json'} - {tmp_path / 'swapped.json'}: all: success at 0.5 +1.000 "
        "[+1.000, +1.000], p 0.02"
    )
    assert lines[-1] == "99 resamples of the same samples"


def refusals(w, placed: Path, out: Path) -> dict[str, tuple[tuple[object, ...], str]]:
    boxes = ("--dataset", "boxes", "--annotations", placed / "boxes.csv")
    place = ("eval", "localisation", "--sounds", placed / "sounds.h5")
    result = out / "r.json"
    return {
        "a memory without parts": (
            ("eval", "localisation", *exact(placed, "plain")),
            "has no local embeddings, which say where things are: make them with `mcr extract "
            "--local`, or cut the pictures with `mcr crops` and give --crops and --regions",
        ),
        "no boxes": (
            (*place, "--pictures", placed / "exact.h5"),
            "localisation needs the boxes of what sounds: give --dataset and --annotations",
        ),
        "no counterfactual boxes": (
            ("eval", "counterfactual", "--sounds", placed / "sounds.h5"), "needs the boxes of what",
        ),
        "half of the annotations": (
            (*place, "--pictures", placed / "exact.h5", *boxes[:2]),
            "--dataset is given without --annotations: give both",
        ),
        "nowhere": ((*place, *boxes), "give either --pictures or --crops"),
        "crops alone": ((*place, *boxes, "--crops", placed / "crops.h5"), "--crops needs"),
        "a grid of words": (
            (*place, *boxes, "--pictures", placed / "exact.h5", "--grid", "four"),
            "--grid four should read ROWSxCOLUMNS",
        ),
        "an upsampling": (
            (*place, *boxes, "--pictures", placed / "exact.h5", "--upsample", "cubic"),
            "--upsample is 'cubic' but is bicubic, bilinear or nearest",
        ),
        "regions of pictures": (
            (*place, *boxes, "--pictures", placed / "exact.h5", "--regions", placed / "boxes.csv"),
            "--regions belongs to --crops, and --pictures is given: leave --regions out",
        ),
        "a grid of crops": (
            (*place, *boxes, "--crops", placed / "crops.h5", "--grid", "4x4",
             "--regions", placed / "crops" / "regions.csv"),
            "--grid belongs to --pictures, and --crops is given: leave --grid out",
        ),
        "sounds for pictures": (
            (*place, *boxes, "--pictures", placed / "sounds.h5"),
            "sounds.h5 holds audio, and maps are made of pictures: give --pictures a memory of",
        ),
        "texts for crops": (
            (*place, *boxes, "--crops", placed / "texts.h5",
             "--regions", placed / "crops" / "regions.csv"),
            "texts.h5 holds text, and maps are made of pictures: give --crops a memory of images",
        ),
        "a place within a file": (
            ("eval", "localisation", *exact(placed), "-o", placed / "boxes.csv" / "r.json"),
            "boxes.csv is a file, not a folder: choose another output",
        ),
        "crops of others": (
            (*place, *boxes, "--crops", placed / "plain.h5",
             "--regions", placed / "crops" / "regions.csv"),
            "which is not an item of",
        ),
        "labels of others": (
            ("eval", "zero-shot", "-b", w.sound_bridge, "-i", w.memory("sounds"), *boxes),
            "has no classes: give another data set's annotations",
        ),
        "files of no kind": (
            ("eval", "zero-shot", "-b", w.sound_bridge, "-i", out),
            "is neither a memory (NAME.h5) nor a folder of image, audio or points",
        ),
        "files without a bridge": (
            ("eval", "zero-shot", "-i", w.files / "sounds"),
            "is no memory (NAME.h5), and without a bridge it is not known with which encoder",
        ),
        "texts that both embed": (
            ("eval", "zero-shot", "-b", w.sound_bridge, "-i", w.files / "texts.csv",
             "--as", "text"),
            "holds text, which hears and sees both embed: make a memory of it",
        ),
        "too few templates": (
            ("eval", "zero-shot", "-b", w.sound_bridge, "-i", w.memory("sounds"), "--first", 99),
            "the first 99 templates are asked for but the list for audio has 12",
        ),
        "two spaces without a bridge": (
            ("eval", "retrieval", "-q", w.memory("sounds"), "-g", w.memory("images")),
            "which cannot be compared: name the bridge that joins them with --bridge",
        ),
        "too few resamples": (
            ("eval", "localisation", *exact(placed), "--resamples", 3),
            "resamples is 3 but a 95 % interval needs at least 39",
        ),
        "a place that is a folder": (
            ("eval", "localisation", *exact(placed), "-o", out), "is a folder but a result is"
        ),
        "a result beside a bridge": (
            ("compare", result, w.sound_bridge), "is a result and",
        ),
        "results with memories": (
            ("compare", result, result, "-q", w.memory("sounds")),
            "results were measured on memories already: leave --query and --gallery out",
        ),
        "a data set that is not known": (
            (*place, "--pictures", placed / "exact.h5", "--dataset", "coco",
             "--annotations", placed / "boxes.csv"),
            "'coco' is not a data set that is known: use one of vggss, music-solo",
        ),
    }  # fmt: skip


CASES = [
    "a memory without parts", "no boxes", "no counterfactual boxes", "half of the annotations",
    "nowhere", "crops alone", "a grid of words", "an upsampling", "regions of pictures",
    "a grid of crops", "sounds for pictures", "texts for crops", "a place within a file",
    "crops of others",
    "labels of others", "files of no kind", "files without a bridge", "texts that both embed",
    "too few templates", "two spaces without a bridge", "too few resamples",
    "a place that is a folder", "a result beside a bridge", "results with memories",
    "a data set that is not known",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_mistakes_get_one_sentence(case, workshop, placed, tmp_path):
    arguments, sentence = refusals(workshop, placed, tmp_path)[case]
    assert sentence in refused(*arguments)


def test_every_mistake_is_tried(workshop, placed, tmp_path):
    assert set(refusals(workshop, placed, tmp_path)) == set(CASES)


def test_bridges_are_compared_on_memories(workshop):
    result = mcr("compare", workshop.sound_bridge, workshop.shape_bridge)
    assert result.exit_code == 2
    assert "--query" in result.stderr


def test_crops_of_pictures_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    result = mcr("crops", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "none of the 1 pictures could be read" in result.stderr
    write_pictures(tmp_path / "good")
    (tmp_path / "good" / "bad.png").write_bytes(b"no picture")
    result = mcr("crops", tmp_path / "good", "-o", tmp_path / "crops", "--grid", "2x3")
    assert result.exit_code == 3
    assert result.stdout.endswith("regions.csv: 24 crops of 4 pictures\n")
    assert "1 pictures cannot be read and are listed in" in result.stderr
