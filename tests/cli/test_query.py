"""`mcr query`, `mcr eval` and `mcr info`: answers on stdout, everything else on stderr."""

from __future__ import annotations

import shutil

import pytest
import torch

from bridge.artefact import load
from features.encoders import load_encoder
from features.memories.memory import Memory
from features.sealed import read_sealed
from features.search.index import open_index
from tests.cli.conftest import NUMBERS, answer, done


def shared_row(workshop, bridge, space, modality, item) -> torch.Tensor:
    """A query in the bridge's space, by the library's parts."""
    encoder = load_encoder(workshop.specs[space], device="cpu")
    row = encoder.encode([encoder.input(modality)(item)], modality)
    return load(bridge, device="cpu").project(row, space)[0]


def expected_hits(row: torch.Tensor, gallery: torch.Tensor, names, k: int):
    scores, rows = (gallery @ row).topk(k)
    return [names[i] for i in rows.tolist()], scores.tolist()


def test_a_sound_finds_pictures_through_an_index(workshop):
    sound = workshop.item("audio", NUMBERS[3])
    told = answer("query", sound, "-b", workshop.sound_bridge, "-i", workshop.index, "-k", 4)
    shared = Memory(workshop.memory("shared"))
    row = shared_row(workshop, workshop.sound_bridge, "hears", "audio", sound)
    names, scores = expected_hits(row, shared.tensor(), shared.ids, 4)
    assert (told["query"], told["modality"]) == (str(sound), "audio")
    assert [hit["id"] for hit in told["hits"]] == names
    assert [hit["score"] for hit in told["hits"]] == pytest.approx(scores, abs=1e-4)
    first = told["hits"][0]
    assert first["id"] == f"images-{first['label']}"
    assert first["path"] == str(workshop.item("image", first["label"]).resolve())


@pytest.mark.parametrize("gallery", ["shared", "images"])
def test_a_memory_is_searched_whether_it_is_projected_or_not(workshop, gallery):
    sound = workshop.item("audio", NUMBERS[3])
    arguments = ("query", sound, "-b", workshop.sound_bridge, "-k", 4)
    by_index = answer(*arguments, "-i", workshop.index)["hits"]
    by_memory = answer(*arguments, "--memory", workshop.memory(gallery))["hits"]
    assert [hit["score"] for hit in by_memory] == pytest.approx(
        [hit["score"] for hit in by_index], abs=2e-3
    )
    assert by_memory[0]["id"] == by_index[0]["id"]


def test_points_find_pictures(workshop):
    cloud = workshop.item("points", NUMBERS[5])
    told = answer(
        "query", cloud, "-b", workshop.shape_bridge, "--memory", workshop.memory("images")
    )
    assert told["modality"] == "points"
    images = Memory(workshop.memory("images"))
    gallery = load(workshop.shape_bridge, device="cpu").project(images.tensor(), "sees")
    row = shared_row(workshop, workshop.shape_bridge, "shapes", "points", cloud)
    names, _ = expected_hits(row, gallery, images.ids, 10)
    assert [hit["id"] for hit in told["hits"]] == names


def test_a_picture_finds_itself(workshop):
    picture = workshop.item("image", NUMBERS[7])
    for where in (
        ("-b", workshop.sound_bridge, "-i", workshop.index),
        ("-b", workshop.sound_bridge, "--memory", workshop.memory("images")),
        ("--memory", workshop.memory("images")),
    ):
        (hit,) = answer("query", picture, *where, "-k", 1)["hits"]
        assert hit["id"] == f"images-{NUMBERS[7]}"
        assert hit["score"] == pytest.approx(1, abs=2e-3)


def test_a_sentence_is_averaged_over_both_spaces_or_taken_from_one(workshop):
    bridge, text = workshop.sound_bridge, "the number 20"
    shared = Memory(workshop.memory("shared"))
    rows = {s: shared_row(workshop, bridge, s, "text", text) for s in ("hears", "sees")}
    both = torch.nn.functional.normalize(rows["hears"] + rows["sees"], dim=0)
    for via, row in (
        ((), both),
        (("--via", "hears"), rows["hears"]),
        (("--via", "sees"), rows["sees"]),
    ):
        told = answer("query", text, "-b", bridge, "-i", workshop.index, *via, "-k", 5)
        names, scores = expected_hits(row, shared.tensor(), shared.ids, 5)
        assert [hit["score"] for hit in told["hits"]] == pytest.approx(scores, abs=1e-4)
        assert told["hits"][0]["id"] == names[0]
        assert told["modality"] == "text"


def test_without_a_bridge_a_space_is_searched_by_itself(workshop, tmp_path):
    done("index", workshop.memory("images"), "-o", tmp_path / "images.faiss")
    texts = ("query", "the number 20")
    by_memory = answer(*texts, "--memory", workshop.memory("images"))
    by_index = answer(*texts, "-i", tmp_path / "images.faiss")
    images = Memory(workshop.memory("images"))
    encoder = load_encoder(workshop.specs["sees"], device="cpu")
    row = encoder.encode([encoder.input("text")("the number 20")], "text")[0]
    names, scores = expected_hits(row, images.tensor(), images.ids, 10)
    for told in (by_memory, by_index):
        assert [hit["id"] for hit in told["hits"]] == names
        assert [hit["score"] for hit in told["hits"]] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--id-column", "key", "--label-column", "number"), "images-{n}\t{n}\timages/{n}.png"),
        (("--id-column", "key"), "images-{n}\t\timages/{n}.png"),
        (("--label-column", "number"), "images/{n}.png\t{n}"),
        ((), "images/{n}.png"),
    ],
)
def test_hits_are_lines_of_cosine_id_class_and_item(workshop, tmp_path, options, line):
    done(
        "extract", workshop.files / "images.csv", "-e", workshop.specs["sees"], "-m", "image",
        "-o", tmp_path / "images.h5", *options,
    )  # fmt: skip
    arguments = ("query", workshop.item("image", NUMBERS[7]), "--memory", tmp_path / "images.h5")
    lines = done(*arguments, "-k", 3).stdout.splitlines()
    hits = answer(*arguments, "-k", 3)["hits"]
    assert lines[0] == "1.0000\t" + line.format(n=NUMBERS[7])
    assert [one.split("\t")[:2] for one in lines] == [
        [f"{hit['score']:.4f}", hit["id"]] for hit in hits
    ]


def test_more_hits_than_items_are_all_items(workshop):
    told = answer("query", "one", "-b", workshop.sound_bridge, "-i", workshop.index, "-k", 1000)
    assert {hit["label"] for hit in told["hits"]} == set(NUMBERS)


def test_a_file_can_be_read_as_told(workshop, tmp_path):
    odd = shutil.copy(workshop.item("image", NUMBERS[7]), tmp_path / "picture.bin")
    (hit,) = answer("query", odd, "--memory", workshop.memory("images"), "--as", "image", "-k", 1)[
        "hits"
    ]
    assert hit["id"] == f"images-{NUMBERS[7]}"


def test_an_encoder_that_moved_can_be_named(workshop, tmp_path):
    moved = shutil.copy(workshop.specs["hears"].removeprefix("mini:"), tmp_path / "m.safetensors")
    arguments = (
        "query", workshop.item("audio", NUMBERS[0]), "-b", workshop.sound_bridge,
        "-i", workshop.index,
    )  # fmt: skip
    assert answer(*arguments, "--encoder", f"hears=mini:{moved}") == answer(*arguments)


def test_eval_prints_both_directions(workshop):
    arguments = (
        "eval", "-b", workshop.sound_bridge, "-q", workshop.memory("sounds"),
        "-g", workshop.memory("images"),
    )  # fmt: skip
    told = answer(*arguments)
    assert (told["query"], told["gallery"], told["relevance"]) == ("audio", "image", "labels")
    assert told["chance"] == pytest.approx(1 / len(NUMBERS))
    assert set(told["forward"]["recall"]) == {"1", "5", "10"}
    assert told["forward"]["queries"] == told["backward"]["queries"] == len(NUMBERS)
    lines = done(*arguments).stdout.splitlines()
    assert lines[0].split() == ["R@1", "R@5", "R@10", "median", "rank", "mAP", "queries"]
    recall = [f"{told['forward']['recall'][k]:.3f}" for k in ("1", "5", "10")]
    assert lines[1].split()[:6] == ["audio", "->", "image", *recall]
    assert lines[2].startswith("image -> audio")
    assert lines[3] == f"right by labels; R@1 of chance {1 / len(NUMBERS):.4f}"


def test_eval_notes_the_queries_that_are_left_out_on_stderr(workshop, tmp_path):
    few = tmp_path / "few.h5"
    done(
        "extract", workshop.files / "sounds.csv", "-e", workshop.specs["hears"], "-m", "audio",
        "-o", few, "--label-column", "number", "--where", "digits=2",
    )  # fmt: skip
    result = done("eval", "-b", workshop.sound_bridge, "-q", few, "-g", workshop.memory("images"))
    left_out = len(NUMBERS) - len(Memory(few))
    assert left_out > 0
    sentence = f"{left_out} queries have no right item in the other memory and are left out\n"
    assert result.stderr == sentence


def test_info_knows_memories(workshop):
    told = answer("info", workshop.memory("images"))
    assert (told["kind"], told["items"], told["space"]) == ("memory", len(NUMBERS), "sees")
    assert told["labels"] == len(set(NUMBERS))
    assert told["first_ids"] == [f"images-{number}" for number in NUMBERS[:3]]
    assert told["fingerprint"] == Memory(workshop.memory("images")).fingerprint


def test_info_knows_bridges(workshop):
    told = answer("info", workshop.sound_bridge)
    about = read_sealed(workshop.sound_bridge / "bridge.json")
    assert told == {"kind": "bridge", "path": str(workshop.sound_bridge), **about}


def test_info_knows_indices(workshop):
    told = answer("info", workshop.index)
    assert (told["kind"], told["factory"], told["recall@10"]) == ("index", "Flat", 1.0)
    assert told["fingerprint"] == open_index(workshop.index).about["fingerprint"]


@pytest.mark.parametrize("what", ["memory", "bridge", "index"])
def test_info_is_readable_as_well(workshop, what):
    paths = {
        "memory": workshop.memory("images"), "bridge": workshop.sound_bridge,
        "index": workshop.index,
    }  # fmt: skip
    result = done("info", paths[what])
    lines = result.stdout.splitlines()
    assert lines[:2] == [f"kind: {what}", f"path: {paths[what]}"]
    assert result.stderr == ""


@pytest.mark.parametrize("command", ["eval", "query", "info"])
def test_answers_leave_stderr_empty(workshop, command):
    arguments = {
        "eval": ["-b", workshop.sound_bridge, "-q", workshop.memory("sounds"),
                 "-g", workshop.memory("images")],
        "query": ["one", "-b", workshop.sound_bridge, "-i", workshop.index],
        "info": [workshop.memory("images")],
    }  # fmt: skip
    assert done(command, *arguments[command]).stderr == ""
