"""What all pictures share: sizes of a paper, quiet axes, words beside lines, files that repeat.

The same data gives the same bytes with the same Matplotlib: identifiers are salted with a
constant, and no date is written.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.pictures.palette import LIGHT, Theme
from features.errors import UserError
from features.extras import require_package
from features.files import refuse_folder, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.35, 6.9  # inches: a column of a paper of two, and both
WIDTHS = {"column": COLUMN, "page": PAGE}
SUFFIXES = (".svg", ".pdf", ".png")
DPI = 200  # of .png, and of what has too many marks to be drawn as vectors
MANY_MARKS = 500
# Of lines that stand for no modality, whose colours they must not take.
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
LETTER = 0.58  # mean width of a letter, in its size
_LEAST_PANEL, _LABEL_SHARE = 2.4, 0.45  # inches; of a panel that words beside it may take
_SAMPLE = 14  # points of a line that is shown before its name
_SALT = "mcr-bridge"
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {},
}


@dataclass(frozen=True)
class Style:
    """How a picture looks. width: in inches. font: of axes and words, in points.

    outlined: letters of .svg as shapes, the same everywhere, instead of words to be searched.
    """

    theme: Theme = LIGHT
    width: float = PAGE
    font: float = 8.0
    outlined: bool = False

    @property
    def small(self) -> float:
        """Of ticks and notes, in points."""
        return self.font * 0.85


@contextmanager
def styled(style: Style) -> Iterator[None]:
    """Matplotlib's settings for a picture that is made, or written, inside."""
    matplotlib = require_package("matplotlib", "a picture")
    theme = style.theme
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.size": style.font,
                "font.family": "DejaVu Sans",
                "axes.titlesize": style.font,
                "axes.labelsize": style.font,
                "xtick.labelsize": style.small,
                "ytick.labelsize": style.small,
                "legend.fontsize": style.font,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.linewidth": 0.6,
                "xtick.major.width": 0.6,
                "ytick.major.width": 0.6,
                "lines.linewidth": 1.4,
                "text.color": theme.ink,
                "axes.labelcolor": theme.ink,
                "axes.titlecolor": theme.ink,
                "axes.edgecolor": theme.muted,
                "xtick.color": theme.muted,
                "ytick.color": theme.muted,
                "xtick.labelcolor": theme.ink,
                "ytick.labelcolor": theme.ink,
                "axes.facecolor": "none",
                "figure.facecolor": theme.background or "none",
                "savefig.facecolor": "auto",
                "legend.frameon": False,
                "text.parse_math": False,  # a dollar in a label is a dollar
                "svg.fonttype": "path" if style.outlined else "none",
                "svg.hashsalt": _SALT,
                "pdf.fonttype": 42,
            }
        )
        yield


def new_figure(style: Style, height: float) -> Figure:
    """An empty picture of the style's width, `height` inches high, that keeps words apart."""
    from matplotlib.figure import Figure

    return Figure(figsize=(style.width, height), layout="constrained")


def rendered(figure: Figure, form: str, style: Style, *, dpi: int = DPI) -> bytes:
    """The picture as `svg`, `pdf` or `png`."""
    data = io.BytesIO()
    with styled(style):
        figure.savefig(data, format=form, dpi=dpi, metadata=_METADATA[form])
    return data.getvalue()


def save(figure: Figure, out: Path, style: Style, *, dpi: int = DPI) -> Path:
    """Write the picture, its format by the suffix; an earlier one of this name is replaced."""
    check_picture(out)
    data = rendered(figure, out.suffix[1:].lower(), style, dpi=dpi)
    with replacing(out) as temporary:
        temporary.write_bytes(data)
    return out


def check_picture(out: Path) -> None:
    """Raise UserError unless `out` can be a picture: called before the work is done."""
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"a picture is called NAME{' or NAME'.join(SUFFIXES)}, not {out.name}: choose one of "
            "these endings"
        )
    refuse_folder(out)


def footnote(figure: Figure, sentences: Sequence[str], style: Style) -> None:
    """Small words below the picture: what was drawn at random, what cannot be seen."""
    if sentences:
        words = _noted(sentences, style)
        figure.supxlabel(words, x=0.01, ha="left", fontsize=style.small, color=style.theme.muted)


def footnote_height(sentences: Sequence[str], style: Style) -> float:
    """How much room a footnote takes, in inches."""
    lines = _noted(sentences, style).count("\n") + 1 if sentences else 0
    return lines * 1.3 * style.small / 72 + 0.08


def _noted(sentences: Sequence[str], style: Style) -> str:
    return wrapped("; ".join(sentences), style.width - 0.2, style.small)


def words_width(words: Sequence[str], size: float) -> float:
    """How much room the longest of these takes at `size` points, in inches."""
    return max((len(one) for one in words), default=0) * LETTER * size / 72


def wrapped(text: str, width: float, size: float, lines: int | None = None) -> str:
    """Text in lines that fit into `width` inches at `size` points, shortened to `lines`."""
    import textwrap

    characters = max(4, int(width * 72 / (LETTER * size)))
    told = textwrap.wrap(" ".join(text.split()), characters, max_lines=lines, placeholder="…")
    return "\n".join(told)


@dataclass(frozen=True)
class EndLabel:
    """Words beside the end of a line: `y` in the axis' units.

    dash: of the line, shown as well. value: what follows the words, and is never shortened.
    """

    y: float
    text: str
    colour: str
    dash: Any = None
    value: str = ""


def label_ends(axis: Axes, labels: Sequence[EndLabel], style: Style) -> None:
    """Write words to the right of the axis, each at its height or as near as they stay apart.

    Words that would take most of the room are shortened.
    """
    room = _LABEL_SHARE * style.width / _in_a_row(axis)
    drawn = [
        axis.annotate(
            _named(one, room, style),
            (1, one.y),
            xycoords=axis.get_yaxis_transform(),
            xytext=(4 if one.dash is None else _SAMPLE + 8, 0),
            textcoords="offset points",
            va="center",
            color=one.colour,
            fontsize=style.font,
            annotation_clip=False,
        )
        for one in labels
    ]
    samples = {i: _sample(axis, one) for i, one in enumerate(labels) if one.dash is not None}
    axis.figure.draw_without_rendering()  # type: ignore[union-attr]  # the layout is then known
    inverse, step = axis.transData.inverted(), 1.25 * style.font * axis.figure.dpi / 72
    heights = [float(axis.transData.transform((0, one.y))[1]) for one in labels]
    lowest, highest = axis.bbox.y0, axis.bbox.y1
    for i, y in enumerate(spread(heights, step, lowest, highest)):
        for one in (drawn[i], samples.get(i)):
            if one is not None:
                one.xy = (1, float(inverse.transform((0, y))[1]))


def _named(label: EndLabel, room: float, style: Style) -> str:
    value = f" {label.value}" if label.value else ""
    return wrapped(label.text, room - words_width([value], style.font), style.font, 1) + value


def _sample(axis: Axes, label: EndLabel) -> Any:
    """A short line as the label's, before its words."""
    return axis.annotate(
        "", (1, label.y), xycoords=axis.get_yaxis_transform(), xytext=(_SAMPLE + 4, 0),
        textcoords="offset points", annotation_clip=False,
        arrowprops={
            "arrowstyle": "-", "color": label.colour, "linestyle": label.dash, "linewidth": 1.2,
            "shrinkA": 0, "shrinkB": 4,
        },
    )  # fmt: skip


def spread(places: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Places at least `step` apart, in the same order, near where they were, from low to high.

    Where there is no room for all, they go on above `high`.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = [min(max(places[i], low), high) for i in order]
    for _ in range(100):
        moved = False
        for i in range(1, len(found)):
            lack = step - (found[i] - found[i - 1])
            if lack > 1e-6:
                found[i - 1] -= lack / 2
                found[i] += lack / 2
                moved = True
        if found and found[-1] > high:
            found = [y - (found[-1] - high) for y in found]
        if found and found[0] < low:
            found = [y + (low - found[0]) for y in found]
        if not moved:
            break
    for i in range(1, len(found)):
        found[i] = max(found[i], found[i - 1] + step)
    result = [0.0] * len(found)
    for place, i in zip(found, order, strict=True):
        result[i] = place
    return result


def ink_of(name: str, style: Style) -> str:
    """The colour of lines and words of a modality; of anything else, that of all words."""
    return next((ink for one, ink in style.theme.line.items() if one == name), style.theme.ink)


def panels(figure: Figure, columns: int, **more: Any) -> list[Axes]:
    """Axes side by side."""
    return list(figure.subplots(1, columns, squeeze=False, **more)[0])


def stacked(style: Style, count: int) -> bool:
    """Whether panels with words beside them have to lie one below the other."""
    return style.width / count < _LEAST_PANEL


def line_panels(style: Style, count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A picture with panels for lines, side by side if there is room; `height` inches each."""
    rows = count if stacked(style, count) else 1
    figure = new_figure(style, rows * height)
    axes = figure.subplots(rows, count // rows, squeeze=False)
    return figure, list(axes.flat)


def _in_a_row(axis: Axes) -> int:
    grid = axis.get_gridspec()
    return 1 if grid is None else int(grid.ncols)
