"""`mcr plot`: every kind on files of every modality, and the mistakes people make."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.cli.conftest import SMALL, done, mcr

pytest.importorskip("matplotlib")
SVG = "{http://www.w3.org/2000/svg}"


def words(path) -> str:
    """All words of an SVG."""
    root = ElementTree.parse(path).getroot()
    return " | ".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))


@pytest.fixture
def sides(workshop):
    return ("-q", workshop.memory("sounds"), "-g", workshop.memory("images"))


def test_scatter(workshop, tmp_path):
    out = tmp_path / "a.svg"
    told = done(
        "plot", "scatter", workshop.memory("sounds"), workshop.memory("images"), "-b",
        workshop.sound_bridge, "--items", "20", "--seed", "3", "-o", out,
    ).stdout  # fmt: skip
    assert told == f"{out}\n"
    assert "audio | image" in words(out)
    assert "20 of 32 audio items, 20 of 32 image items, drawn with seed 3" in words(out).replace(
        " | ", " "
    )


def test_similarity_and_histogram(workshop, sides, tmp_path):
    for kind, told in (("similarity", "cosine"), ("histogram", "32 matches")):
        out = tmp_path / f"{kind}.svg"
        done("plot", kind, *sides, "-b", workshop.sound_bridge, "-o", out, "--theme", "dark")
        assert told in words(out)
        assert "before the bridge" in words(out)
        assert "#14171a" in out.read_text()


def test_gap(workshop, tmp_path):
    out = tmp_path / "gap.svg"
    memories = [workshop.memory(name) for name in ("sounds", "text-hears", "images")]
    done("plot", "gap", *memories, "-b", workshop.sound_bridge, "-o", out, "--width", "column")
    assert "audio and text" in words(out)
    assert " → " in words(out)


def test_training(workshop, tmp_path):
    out = tmp_path / "training.pdf"
    done("plot", "training", workshop.sound_bridge, workshop.shape_bridge, "-o", out)
    assert out.read_bytes().startswith(b"%PDF")


def test_recall_of_memories_and_of_results(workshop, sides, tmp_path):
    bridge = ("-b", workshop.sound_bridge)
    done("plot", "recall", *sides, *bridge, "-o", tmp_path / "a.svg")
    result = tmp_path / "result.json"
    done("eval", *sides, *bridge, "--resamples", "0", "-o", result)
    done("plot", "recall", result, "-o", tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "sound-bridge" in words(tmp_path / "a.svg")


def test_hits_of_sounds_and_of_clouds(workshop, sides, tmp_path):
    out = tmp_path / "hits.png"
    done("plot", "hits", *sides, "-b", workshop.sound_bridge, "--choose", "worst", "-o", out)
    with Image.open(out) as image:
        assert image.width == 1380
    out = tmp_path / "hits.svg"
    clouds = ("-q", workshop.memory("clouds"), "-g", workshop.memory("text-sees"))
    done("plot", "hits", *clouds, "-b", workshop.shape_bridge, "-k", "3", "--rows", "2", "-o", out)
    assert words(out).count("✗") + words(out).count("✓") == 6 + 2  # and in the words below


def test_the_picture_lies_in_the_working_folder_unless_it_is_named(workshop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert done("plot", "training", workshop.sound_bridge).stdout == "training.svg\n"
    assert (tmp_path / "training.svg").exists()


def test_a_picture_that_is_there_is_not_replaced_unless_it_is_said(workshop, tmp_path):
    out = tmp_path / "mine.svg"
    out.write_text("drawn by hand")
    assert refused("training", workshop.sound_bridge, "-o", out) == (
        f"error: {out} exists: pass --overwrite or choose another output"
    )
    assert out.read_text() == "drawn by hand"
    done("plot", "training", workshop.sound_bridge, "-o", out, "--overwrite")
    assert "loss" in words(out)


def refused(*arguments, code: int = 1) -> str:
    result = mcr("plot", *arguments)
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_mistakes_get_one_sentence(workshop, sides, tmp_path):
    bridge = ("-b", workshop.sound_bridge)
    sounds = workshop.memory("sounds")
    assert "NAME.svg or NAME.pdf or NAME.png" in refused("scatter", sounds, "-o", "a.gif")
    assert "no theme 'sepia'" in refused("scatter", sounds, "--theme", "sepia", code=2)
    assert "no width 'wide'" in refused("scatter", sounds, "--width", "wide", code=2)
    both = ("--relevance", "both")  # not taken for memories of which nothing says what is right
    assert "no relevance 'both'" in refused("hits", *sides, *bridge, *both, code=2)
    assert "is a folder but this picture is of memories" in refused(
        "scatter", workshop.sound_bridge
    )
    assert "joins hears and sees, not 'shapes'" in refused(
        "scatter", sounds, workshop.memory("clouds"), *bridge
    )
    assert "name the bridge that joins them" in refused("histogram", *sides)
    assert "give results of `mcr eval retrieval`, or both" in refused("recall")
    assert "or both --query and --gallery" in refused("recall", *sides[:2])
    assert "has no item x" in refused("hits", *sides, *bridge, "--id", "x")
    assert "is not a bridge" in refused("gap", sounds, sounds, "-b", tmp_path)
    assert "has no metrics.jsonl" in refused("training", tmp_path)


def test_a_closed_form_has_no_curves(workshop, tmp_path):
    done(
        "train", "--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"),
        "--leaf", workshop.memory("sounds"), "-o", tmp_path / "closed", "--method", "ridge",
        *SMALL[:4], "--preset", "published",
    )  # fmt: skip
    assert "not closed forms, mixtures" in refused("training", tmp_path / "closed")


def test_an_unknown_kind_is_wrong_usage():
    result = mcr("plot", "pie")
    assert result.exit_code == 2
    assert "pie" in result.stderr
