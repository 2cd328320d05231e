"""Files of pictures: their kinds, the same bytes again, and words that keep apart."""

from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bridge.pictures.canvas import (
    EndLabel,
    Style,
    label_ends,
    new_figure,
    rendered,
    save,
    spread,
    styled,
    wrapped,
)
from bridge.pictures.palette import DARK, TRANSPARENT
from features.errors import UserError
from tests.bridge.pictures.words import check_words


def line(style: Style):
    with styled(style):
        figure = new_figure(style, 2)
        axis = figure.subplots()
        axis.plot([1, 2, 3], [0.5, 0.7, 0.9])
        axis.set_title("$5 & <more>")
    return figure


@pytest.mark.parametrize(
    ("suffix", "start"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")]
)
def test_the_suffix_decides_the_format_and_equal_data_give_equal_bytes(tmp_path, suffix, start):
    made = [save(line(Style()), tmp_path / f"{i}{suffix}", Style()) for i in range(2)]
    first, second = (path.read_bytes() for path in made)
    assert first == second
    assert first.startswith(start)
    assert b"Date" not in first.replace(b"CreationDate", b"") or suffix != ".svg"
    assert b"CreationDate" not in first


def test_words_of_an_svg_are_words_unless_outlines_are_wanted():
    told = rendered(line(Style()), "svg", Style()).decode()
    assert "$5 &amp; &lt;more&gt;" in told
    assert "$5" not in rendered(line(Style()), "svg", Style(outlined=True)).decode().replace(
        "<!-- $5", ""
    )


def test_the_background_is_the_themes_or_nothing(tmp_path):
    corner = {}
    for theme in (DARK, TRANSPARENT):
        style = Style(theme)
        with Image.open(save(line(style), tmp_path / "a.png", style)) as image:
            corner[theme.name] = image.convert("RGBA").getpixel((0, 0))
    assert corner["dark"] == (0x14, 0x17, 0x1A, 255)
    assert corner["transparent"][3] == 0


def test_matplotlibs_settings_are_left_as_they_were():
    before = dict(mpl.rcParams)
    rendered(line(Style(DARK)), "svg", Style(DARK))
    assert dict(mpl.rcParams) == before


def test_mistakes_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"NAME\.svg or NAME\.pdf or NAME\.png, not a\.jpg"):
        save(line(Style()), tmp_path / "a.jpg", Style())
    (tmp_path / "b.svg").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        save(line(Style()), tmp_path / "b.svg", Style())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("features.extras.find_spec", lambda _: None)
    with (
        pytest.raises(UserError, match=r'matplotlib: pip install "mcr-bridge\[plot\]"'),
        styled(Style()),
    ):
        pass


@given(st.lists(st.floats(0, 100), max_size=8), st.floats(1, 12))
def test_labels_are_spread_in_their_order_with_room_between(places, step):
    found = np.array(spread(places, step, 0, 100))
    order = np.argsort(places, kind="stable")
    assert (np.diff(found[order]) >= step - 1e-6).all()
    if len(places) == 1:
        assert found[0] == places[0]


def test_labels_that_have_room_stay_where_they_are():
    assert spread([10, 50, 30], 5, 0, 100) == [10, 50, 30]


def test_words_beside_equal_lines_do_not_lie_on_each_other():
    style = Style()
    with styled(style):
        figure = new_figure(style, 2)
        axis = figure.subplots()
        axis.set_ylim(0, 1)
        label_ends(axis, [EndLabel(0.5, f"line {i}", "#000000") for i in range(5)], style)
    words = check_words(figure, style)
    assert {f"line {i}" for i in range(5)} <= set(words)


def test_wrapped_words_fit_and_what_is_cut_says_so():
    told = wrapped("three hundred and thirty three sheep", 0.8, 8, lines=2)
    assert len(told.splitlines()) == 2
    assert told.endswith("…")
    assert wrapped("short", 2, 8, lines=1) == "short"
