"""Contact sheets: which queries are chosen, and what is drawn of items of every modality."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from PIL import Image

from bridge.pictures.answers import Searches, sheet_rows
from bridge.pictures.canvas import COLUMN, PAGE, Style, rendered
from bridge.pictures.sheet import sheet_figure
from bridge.pictures.tiles import SECONDS, Missing, Sound, Tile, View, shown
from features.errors import UserError
from tests.bridge.conftest import projected_memory, write_items
from tests.bridge.pictures.words import check_words


@pytest.fixture
def searches(made, tmp_path):
    """Query `a` is answered at rank 1, `b` at 2 and `c` at 3; nothing answers `d`."""
    query = projected_memory(
        tmp_path / "q.h5", made, [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)],
        ["a", "b", "c", "d"], labels=["one", "two", "three", "none"],
    )  # fmt: skip
    gallery = projected_memory(
        tmp_path / "g.h5", made, [(1, 0, 0.1), (0.3, 0.9, 0), (0.1, 1, 0.2), (-1, 0, 0)],
        ["w", "x", "y", "z"], modality="text", labels=["one", "two", "one", "three"],
    )  # fmt: skip
    return Searches(query, gallery, bridge=made)


def test_best_and_worst_are_by_the_rank_of_the_first_right_hit(searches):
    best = searches.chosen("best", 2, 3)
    assert [(one.query.id, one.rank) for one in best.answers] == [("a", 1), ("b", 2)]
    worst = searches.chosen("worst", 5, 4)
    assert [one.query.id for one in worst.answers] == ["c", "b", "a"]
    (first, *_) = worst.answers
    assert first.rank == 4
    assert [hit.id for hit in best.answers[1].hits] == ["y", "x", "w"]
    assert list(best.answers[1].right) == [False, True, False]
    assert list(first.right) == [False, False, False, True]


def test_best_and_worst_have_every_label_before_one_comes_twice(made, tmp_path):
    query = projected_memory(
        tmp_path / "q.h5", made, [(1, 0, 0), (1, 0.1, 0), (0, 1, 0), (0, 0.9, 0.1)],
        ["a1", "a2", "b1", "b2"], labels=["one", "one", "two", "two"],
    )  # fmt: skip
    gallery = projected_memory(
        tmp_path / "g.h5", made, [(1, 0, 0), (0.3, 0.9, 0)], ["w", "x"], modality="text",
        labels=["one", "two"],
    )  # fmt: skip
    searches = Searches(query, gallery, bridge=made)
    order = [one.query.id for one in searches.chosen("best", 4, 1).answers]
    two = searches.chosen("best", 2, 1)
    first, second = (one.query for one in two.answers)
    assert {first.label, second.label} == {"one", "two"}
    assert second.id == next(name for name in order if name[0] != first.id[0])
    assert (two.notes == ["of each label one query"]) == (order[:2] != [first.id, second.id])
    assert sorted(order) == ["a1", "a2", "b1", "b2"]


def test_queries_are_spread_drawn_or_named(searches):
    assert [one.query.id for one in searches.chosen("spread", 2, 1).answers] == ["a", "d"]
    drawn = searches.chosen("random", 2, 1)
    assert len(drawn.answers) == 2
    assert drawn.notes == ["2 of 4 audio items, drawn with seed 0"]
    named = searches.named(["d", "a"], 1)
    assert [(one.query.id, one.rank) for one in named.answers] == [("d", None), ("a", 1)]
    with pytest.raises(UserError, match="has no item e: its ids are such as a, b, c"):
        searches.named(["e"], 1)
    with pytest.raises(UserError, match="no choice of queries 'good': choose spread, random"):
        searches.chosen("good", 1, 1)


def test_without_labels_nothing_is_right_or_wrong(world, made, tmp_path):
    bare = write_items(tmp_path / "bare.h5", "right", "image", range(6), labels=False)
    found = Searches(world.test[0], bare, bridge=made)
    assert "no answer would be right" in found.unknown
    (answer, *_) = found.chosen("spread", 2, 3).answers
    assert list(answer.right) == [None, None, None]
    with pytest.raises(UserError, match="best and worst need to know what is right, but no ids"):
        found.chosen("worst", 2, 3)


def test_a_sound_is_a_spectrogram_of_its_beginning(tmp_path):
    rate, seconds = 16_000, SECONDS + 2
    time = np.arange(seconds * rate) / rate
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 2000 * time), rate)
    sound = shown(Tile("audio", tmp_path / "tone.wav", "tone"))
    assert isinstance(sound, Sound)
    assert (sound.seconds, sound.whole) == (SECONDS, False)
    loudest = sound.decibels.mean(axis=1).argmax()
    assert loudest * (rate / 2) / (len(sound.decibels) - 1) == pytest.approx(2000, abs=40)
    assert sound.decibels.max() == pytest.approx(0)
    assert sound.decibels.min() >= -60


def test_a_deep_cloud_is_turned_and_a_flat_one_is_not(tmp_path):
    rng = np.random.default_rng(0)
    for name, depth in (("flat", 0.1), ("deep", 1.0)):
        cloud = rng.uniform(-1, 1, (300, 3)) * [1, 1, depth]
        np.savez(tmp_path / f"{name}.npz", xyz=cloud)
        seen = shown(Tile("points", tmp_path / f"{name}.npz", name))
        assert isinstance(seen, View)
        assert (seen.depth.min(), seen.depth.max()) == (0, 1)
        straight = np.allclose(np.ptp(seen.places, axis=0), np.ptp(cloud[:, :2], axis=0))
        assert straight == (name == "flat")


def test_items_that_cannot_be_read_say_so(tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    gone = shown(Tile("image", tmp_path / "gone.png", ""))
    bad = shown(Tile("image", tmp_path / "bad.png", ""))
    assert gone == Missing("gone.png: the file is missing")
    assert isinstance(bad, Missing)
    assert "cannot be decoded" in bad.words
    (tmp_path / "bad.wav").write_text("no sound")
    assert isinstance(shown(Tile("audio", tmp_path / "bad.wav", "")), Missing)


def test_sentences_are_sentences_and_files_of_text_are_read(tmp_path):
    (tmp_path / "a.txt").write_text("from a file")
    assert shown(Tile("text", tmp_path / "a.txt", "")) == "from a file"
    assert shown(Tile("text", "a sentence", "")) == "a sentence"


@pytest.mark.parametrize("width", [COLUMN, PAGE])
def test_a_sheet_of_everything_has_its_words_apart(tmp_path, width):
    Image.new("RGB", (300, 100), "#336699").save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(8000) / 5), 8000)
    np.savez(tmp_path / "a.npz", xyz=np.random.default_rng(0).normal(size=(200, 3)))
    long = "a sentence that is far longer than any tile of a sheet has room for, " * 3
    tiles = [
        Tile(
            "image",
            tmp_path / "a.png",
            "a very long label that does not fit",
            right=True,
            score=0.5,
        ),
        Tile("points", tmp_path / "a.npz", "cloud", right=False, score=0.4),
        Tile("text", long, long, right=False, score=-0.3),
        Tile("image", tmp_path / "gone.png", "gone", score=0.2),
    ]
    rows = [(Tile("audio", tmp_path / "a.wav", "sound"), tiles), (Tile("text", "q", "q"), tiles)]
    style = Style(width=width)
    words = check_words(sheet_figure(rows, style), style)
    assert sum(word.endswith("0.50 ✓") for word in words) == 2
    assert words.count("-0.30 ✗") == 2  # of a sentence that the tile shows
    assert sum(word.endswith("0.40 ✗") for word in words) == 2
    assert ("cloud  0.40 ✗" in words) == (width == PAGE)
    assert any("✓ right, ✗ wrong" in " ".join(word.split()) for word in words)
    first, second = (rendered(sheet_figure(rows, style), "svg", style) for _ in range(2))
    assert first == second


def test_the_rows_of_a_sheet_name_labels_and_cosines(searches):
    ((query, hits), *_) = sheet_rows(searches.chosen("best", 1, 2))
    assert (query.modality, query.caption, query.right) == ("audio", "one", None)
    assert [(hit.caption, round(hit.score, 2)) for hit in hits] == [("one", 1.0), ("two", 0.32)]
    assert [hit.right for hit in hits] == [True, False]
    assert hits[0].value == "w"  # a sentence, not a path
