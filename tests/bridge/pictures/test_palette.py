"""Colours: told apart by everybody, read on their background."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from bridge.pictures.palette import MARKS, THEMES, theme_named
from features.errors import UserError
from features.space import MODALITIES

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
SEEN = {
    "all colours": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
JUST_SEEN = 2.3  # of CIE76, the least difference that people notice


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio."""
    dark, light = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(colour: str, seen: np.ndarray) -> np.ndarray:
    xyz = XYZ @ (seen @ linear(colour)).clip(0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def backgrounds(name: str) -> list[str]:
    own = THEMES[name].background
    return [own] if own is not None else ["#ffffff", "#14171a"]


@pytest.mark.parametrize("name", THEMES)
def test_every_modality_has_a_colour_and_a_mark_of_its_own(name):
    theme = THEMES[name]
    assert set(theme.fill) == set(theme.line) == set(MARKS) == set(MODALITIES)
    assert len(set(MARKS.values())) == len(set(theme.fill.values())) == len(MODALITIES)


@pytest.mark.parametrize("name", THEMES)
def test_words_and_lines_can_be_read_on_their_background(name):
    theme = THEMES[name]
    least = 4.5 if theme.background else 3.0  # no colour has 4.5 on white and on black
    for behind in backgrounds(name):
        for ink in (theme.ink, theme.muted, theme.right, *theme.line.values()):
            assert contrast(ink, behind) >= least, (ink, behind)


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("name", THEMES)
def test_modalities_are_told_apart_by_those_who_see_fewer_colours(name, seen):
    for colours in (THEMES[name].fill, THEMES[name].line):
        for one, other in combinations(colours.values(), 2):
            difference = np.linalg.norm(lab(one, SEEN[seen]) - lab(other, SEEN[seen]))
            assert difference > 5 * JUST_SEEN, (one, other)


def test_an_unknown_theme_is_named():
    with pytest.raises(UserError, match="no theme 'sepia': choose light, dark or transparent"):
        theme_named("sepia")
