"""Contact sheets: queries with their hits, best first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bridge.pictures.canvas import (
    Style,
    footnote,
    footnote_height,
    new_figure,
    styled,
    words_width,
    wrapped,
)
from bridge.pictures.tiles import Tile, draw, lines_height, shown, words_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = tuple[Tile, Sequence[Tile]]
_GAP = 0.07  # inches between tiles
_SHAPE = 0.68  # height of a tile, in its width; more where sentences need it
_MOST_LINES = 6  # of a sentence


def sheet_figure(rows: Sequence[Row], style: Style, *, notes: Sequence[str] = ()) -> Figure:
    """Each query at the left, its hits beside it; a right hit has a whole frame and a tick.

    notes: words below the sheet, besides those that explain it.
    """
    columns = 1 + max((len(hits) for _, hits in rows), default=0)
    with styled(style):
        wide = (style.width - 0.1) / (columns + 0.15) - _GAP
        tall, words = _height(rows, wide, style), 1.5 * style.small / 72
        known = any(hit.right is not None for _, hits in rows for hit in hits)
        told = [
            "left: the query; beside it the hits, best first, with their cosines",
            *(["✓ right, ✗ wrong"] if known else []),
            *notes,
        ]
        below = 0.1 + footnote_height(told, style)
        height = len(rows) * (tall + words + _GAP) + below + 0.05
        figure = new_figure(style, height)
        figure.set_layout_engine("none")
        for i, (query, hits) in enumerate(rows):
            y = height - 0.05 - (i + 1) * (tall + words + _GAP) + _GAP
            for j, tile in enumerate([query, *hits]):
                x = 0.05 + j * (wide + _GAP) + (0.15 * wide if j else 0)
                place = (x / style.width, y / height, wide / style.width, tall / height)
                axis = figure.add_axes(place)
                draw(axis, shown(tile), style, width=wide, height=tall)
                _frame(axis, tile, style, wide)
        footnote(figure, told, style)
    return figure


def _height(rows: Sequence[Row], width: float, style: Style) -> float:
    """Of tiles, in inches: room for the longest sentence, within limits."""
    sentences = [
        tile.value
        for query, hits in rows
        for tile in (query, *hits)
        if tile.modality == "text" and isinstance(tile.value, str)
    ]
    lines = max((words_lines(one, width, style) for one in sentences), default=0)
    return max(width * _SHAPE, lines_height(min(lines, _MOST_LINES), style))


def _frame(axis: Axes, tile: Tile, style: Style, width: float) -> None:
    theme = style.theme
    sign = {True: " ✓", False: " ✗", None: ""}[tile.right]
    told = "" if tile.score is None else f"  {tile.score:.2f}"
    room = width - words_width([told + sign], style.small)
    named = tile.caption != tile.value  # else the tile says it already
    colour = theme.right if tile.right else theme.ink if tile.right is None else theme.muted
    caption = wrapped(tile.caption, room, style.small, 1) if named else ""
    words = f"{'' if caption == '…' else caption}{told}{sign}".strip()
    axis.set_title(words, fontsize=style.small, pad=2, color=colour)
    line: Any = (0, (2, 1.5)) if tile.right is False else "-"
    for side in axis.spines.values():
        side.set_visible(True)
        side.set_edgecolor(colour if tile.right is not None else theme.ink)
        side.set_linewidth(1.6 if tile.right else 0.8)
        side.set_linestyle(line)
