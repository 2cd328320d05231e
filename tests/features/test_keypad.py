"""Keypad numbers show what they say, the same every time, and keep their splits apart."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import keypad
from features.extraction.decode import read_audio, read_image, read_points
from features.keypad_files import write_keypad_numbers

ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)
KEYS = {
    "1": (697, 1209), "2": (697, 1336), "3": (697, 1477), "4": (770, 1209), "5": (770, 1336),
    "6": (770, 1477), "7": (852, 1209), "8": (852, 1336), "9": (852, 1477), "0": (941, 1336),
}  # fmt: skip
pytest.importorskip("sklearn")


def test_splits_are_disjoint_and_complete() -> None:
    train, test = keypad.numbers("train"), keypad.numbers("test")
    assert len(keypad.numbers()) == len(set(keypad.numbers())) == 1110
    assert sorted(train + test) == sorted(keypad.numbers())
    assert not set(train) & set(test)
    assert [sum(len(number) == d for number in test) for d in (1, 2, 3)] == [0, 20, 200]
    assert keypad.numbers()[:12] == [*"0123456789", "00", "01"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("0", "zero"),
        ("7", "seven"),
        ("00", "zero zero"),
        ("07", "zero seven"),
        ("10", "ten"),
        ("13", "thirteen"),
        ("19", "nineteen"),
        ("20", "twenty"),
        ("21", "twenty one"),
        ("40", "forty"),
        ("99", "ninety nine"),
        ("000", "zero zero zero"),
        ("007", "zero zero seven"),
        ("042", "zero four two"),
        ("100", "one hundred"),
        ("101", "one hundred one"),
        ("110", "one hundred ten"),
        ("407", "four hundred seven"),
        ("815", "eight hundred fifteen"),
        ("990", "nine hundred ninety"),
        ("999", "nine hundred ninety nine"),
    ],
)
def test_numbers_are_spoken(number: str, words: str) -> None:
    assert keypad.spoken(number) == words
    assert keypad.sentences(number)[1] == f"the number {number}"
    assert f"an example of {words}" in keypad.sentences(number)


def test_no_two_numbers_share_a_sentence() -> None:
    sentences = [one for number in keypad.numbers() for one in keypad.sentences(number)]
    assert len(sentences) == 12 * 1110
    assert len(set(sentences)) == len(sentences)


MAKERS: list[Callable[[np.random.Generator], Any]] = [
    lambda rng: keypad.image("407", "train", rng),
    lambda rng: keypad.sound("407", rng),
    lambda rng: keypad.points("407", "test", rng),
]


@pytest.mark.parametrize("make", MAKERS)
def test_the_generator_decides_the_item(make: Callable[[np.random.Generator], Any]) -> None:
    rng, same, other = (np.random.default_rng(seed) for seed in (1, 1, 2))
    first = make(rng)
    np.testing.assert_array_equal(make(same), first)
    for different in (make(rng), make(other)):
        assert different.shape != first.shape or (different != first).any()


@pytest.mark.parametrize("number", ["0", "07", "999", "111"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_shapes_and_ranges(number: str, split: Any) -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        image = keypad.image(number, split, rng)
        assert (image.shape, image.dtype) == ((32, 64), np.uint8)
        assert image.max() > 100
        assert np.median(image) < 40
        sound = keypad.sound(number, rng)
        assert sound.dtype == np.float32
        assert 0.09 < np.abs(sound).max() <= 0.91
        assert 0.1 < len(sound) / keypad.SAMPLE_RATE < 1.0
        points = keypad.points(number, split, rng)
        assert (points.shape, points.dtype) == ((256, 3), np.float32)
        assert np.isfinite(points).all()


def test_longer_numbers_are_wider() -> None:
    rng = np.random.default_rng(0)
    widths = [np.ptp(keypad.points(number, "train", rng)[:, 0]) for number in ("8", "88", "888")]
    assert widths == sorted(widths)
    inks = [int((keypad.image(number, "train", rng) > 90).sum()) for number in ("8", "88", "888")]
    assert inks == sorted(inks)


@pytest.mark.parametrize("digit", list(KEYS))
def test_a_dialled_digit_has_the_two_tones_of_its_key(digit: str) -> None:
    sound = keypad.sound(digit, np.random.default_rng(int(digit)))
    time = np.arange(len(sound)) / keypad.SAMPLE_RATE

    def strength(hertz: float) -> float:
        return float(np.abs(sound @ np.exp(-2j * np.pi * hertz * time)))

    assert (max(ROWS, key=strength), max(COLUMNS, key=strength)) == KEYS[digit]
    spectrum = np.abs(np.fft.rfft(sound, 16_000))  # half a hertz a bin
    strongest = np.argmax(spectrum) / 2
    assert min(abs(strongest - hertz) for hertz in KEYS[digit]) < 8


@pytest.mark.parametrize("digit", list("0123456789"))
def test_test_pictures_use_handwriting_that_training_never_shows(digit: str) -> None:
    from sklearn.datasets import load_digits

    train, test = _pool(digit, "train"), _pool(digit, "test")
    digits = load_digits()
    assert len(train) + len(test) == int((digits.target == int(digit)).sum())
    assert len(test) > 30
    assert not train & test


def _pool(digit: str, split: Any) -> set[bytes]:
    """Every sample that the pictures and clouds of `digit` in `split` can be drawn from."""
    rng = np.random.default_rng(0)
    return {keypad._handwriting(digit, split, rng).tobytes() for _ in range(4000)}


def test_files_hold_what_their_tables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"train": ["1", "07"], "test": ["42"], None: ["1", "07", "42"]}
    monkeypatch.setattr(keypad, "numbers", lambda split=None: chosen[split])
    write_keypad_numbers(tmp_path / "a", seed=3)
    tables = {name: _rows(tmp_path / f"a/{name}.csv") for name in
              ("images", "sounds", "points", "texts")}  # fmt: skip
    assert {name: len(rows) for name, rows in tables.items()} == {
        "images": 10, "sounds": 10, "points": 10, "texts": 12,
    }  # fmt: skip
    image = tables["images"][-1]
    assert image == {
        "path": "images/42-3.png", "key": "42-3", "number": "42", "digits": "2", "split": "test",
    }  # fmt: skip
    assert read_image(tmp_path / "a" / image["path"]).size == (64, 32)
    assert len(read_audio(tmp_path / "a" / tables["sounds"][0]["path"], 8000)) > 800
    assert read_points(tmp_path / "a" / tables["points"][0]["path"], min_points=256).shape[1] == 3
    assert all(row["text"] in keypad.sentences(row["number"]) for row in tables["texts"])
    assert len({row["text"] for row in tables["texts"]}) == 12
    write_keypad_numbers(tmp_path / "b", seed=3)
    for row in tables["images"]:
        assert (tmp_path / "a" / row["path"]).read_bytes() == (
            tmp_path / "b" / row["path"]
        ).read_bytes()


def test_a_table_that_was_made_before_is_kept_and_the_rest_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keypad, "numbers", lambda split=None: ["5"] if split != "test" else ["42"])
    write_keypad_numbers(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "sounds.csv").unlink()
    (tmp_path / "images.csv").write_text("kept")
    write_keypad_numbers(tmp_path)
    before[tmp_path / "images.csv"] = b"kept"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
