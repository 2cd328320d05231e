"""Where the words of a picture are, to see that they do not lie on each other."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from bridge.pictures.canvas import Style, styled

SLACK = 1.0  # pixels: neighbours may touch


def boxes(figure: Any, style: Style) -> list[tuple[str, Any]]:
    """Every word that is drawn, with its box in pixels."""
    with styled(style):
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
    unseen = {id(label) for axis in figure.axes for label in _unseen_ticks(axis)}
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen
    ]


def _unseen_ticks(axis: Any) -> list[Any]:
    """Labels of ticks outside of the axis, which Matplotlib makes and does not draw."""
    found = []
    for one in (axis.xaxis, axis.yaxis):
        low, high = sorted(one.get_view_interval())
        for tick in [*one.get_major_ticks(), *one.get_minor_ticks()]:
            if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                found += [tick.label1, tick.label2]
    return found


def overlaps(found: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of words whose boxes share more than SLACK pixels in both directions."""
    return [
        (one, other)
        for (one, a), (other, b) in combinations(found, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > SLACK and min(a.y1, b.y1) - max(a.y0, b.y0) > SLACK
    ]


def outside(found: list[tuple[str, Any]], figure: Any) -> list[str]:
    """Words that reach over the edge of the picture."""
    width, height = figure.bbox.width, figure.bbox.height
    return [
        words
        for words, box in found
        if min(box.x0, box.y0) < -SLACK or box.x1 > width + SLACK or box.y1 > height + SLACK
    ]


def check_words(figure: Any, style: Style) -> list[str]:
    """All words of a picture, none on another and none over the edge."""
    found = boxes(figure, style)
    assert overlaps(found) == []
    assert outside(found, figure) == []
    return [words for words, _ in found]
