"""The colours of all pictures and reports: one for a modality, everywhere.

A modality has a `fill`, for areas and marks, and an `ink`, for lines and words, that is dark or
light enough to be read on the theme's background. Marks differ in shape as well, so that nothing
depends on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.space import Modality
from features.suggest import unknown

# Matplotlib's names: circle, square, triangle, diamond.
MARKS: dict[Modality, str] = {"text": "o", "image": "s", "audio": "^", "points": "D"}


@dataclass(frozen=True)
class Theme:
    """Colours on one background, as `#rrggbb`.

    background: None where the page shows through. ink: of words and axes. faint: of what is
    beside the point, such as wrong answers and rules. right: of right answers.
    colours: Matplotlib's name of a scale of values.
    """

    name: str
    background: str | None
    ink: str
    muted: str
    faint: str
    right: str
    fill: Mapping[Modality, str]
    line: Mapping[Modality, str]
    colours: str = "viridis"


_DARK: dict[Modality, str] = {
    "text": "#7d9cf0",
    "image": "#f2bf45",
    "audio": "#f2705a",
    "points": "#7fe092",
}
# Between the two, so that they can be told from white and from black.
_MIDDLE: dict[Modality, str] = {
    "text": "#5b7fe0",
    "image": "#c08a10",
    "audio": "#e0503a",
    "points": "#35994a",
}
LIGHT = Theme(
    "light",
    background="#ffffff",
    ink="#1f2328",
    muted="#57606a",
    faint="#b6bec7",
    right="#1a7f37",
    fill={"text": "#4269d0", "image": "#efb118", "audio": "#ff725c", "points": "#3ca951"},
    line={"text": "#3558b8", "image": "#9a6f00", "audio": "#a8200d", "points": "#267a38"},
)
DARK = Theme(
    "dark",
    background="#14171a",
    ink="#e6e8ea",
    muted="#a3abb3",
    faint="#565e66",
    right="#5fd38a",
    fill=_DARK,
    line=_DARK,
)
TRANSPARENT = Theme(
    "transparent",
    background=None,
    ink="#757b82",
    muted="#757b82",
    faint="#8d949b",
    right="#2c9a52",
    fill=_MIDDLE,
    line=_MIDDLE,
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK, TRANSPARENT)}


def theme_named(name: str) -> Theme:
    """The theme called `name`. Raises UserError with the known ones if there is none."""
    if name not in THEMES:
        raise unknown("theme", name, THEMES)
    return THEMES[name]
