"""The best and the worst queries of a report, with their hits."""

from __future__ import annotations

import io
from typing import Any

from bridge.pictures.answers import Answer, Answers, tile_of
from bridge.pictures.canvas import Style, new_figure, rendered, styled
from bridge.pictures.palette import TRANSPARENT
from bridge.pictures.tiles import Missing, Sound, Tile, View, draw, shown
from bridge.report.contents import Contents
from bridge.report.markup import Markup, data_uri, joined, section, tag, text

_WIDTH, _HEIGHT = 1.5, 1.0  # inches of a drawn tile
_DPI = 110
_PIXELS = 160  # of the longer side of a thumbnail
_WORDS = 200  # letters of a sentence that are shown


def queries(contents: Contents) -> Markup:
    """Best and worst, if queries and a gallery are given."""
    if contents.best is None or contents.worst is None:
        return Markup("")
    kept: dict[Tile, Markup] = {}
    return joined(
        section(title, tag("p", words, class_="note"), *_rows(found, kept))
        for title, words, found in (
            (
                "Best queries",
                "A right item comes first, and far ahead of the first wrong one.",
                contents.best,
            ),
            ("Worst queries", "The first right item comes latest.", contents.worst),
        )
    )


def _rows(found: Answers, kept: dict[Tile, Markup]) -> list[Markup]:
    rows = [tag("ol", *(_row(one, found, kept) for one in found.answers), class_="answers")]
    return [*rows, *(tag("p", note, class_="note") for note in found.notes)]


def _row(answer: Answer, found: Answers, kept: dict[Tile, Markup]) -> Markup:
    query = tile_of(answer.query, found.query, None, score=False)
    words = f"right at rank {answer.rank}"
    tiles = [_figure(query, kept, "query", joined([query.caption, tag("small", words)]))]
    for hit, right in zip(answer.hits, answer.right, strict=True):
        tile = tile_of(hit, found.gallery, None, score=False)
        sign = {True: "✓ right", False: "✗ wrong", None: ""}[right]
        caption = joined([tile.caption, tag("small", f"{hit.score:.2f} {sign}")])
        tiles.append(_figure(tile, kept, "right" if right else "wrong", caption))
    return tag("li", *tiles)


def _figure(tile: Tile, kept: dict[Tile, Markup], kind: str, caption: Markup) -> Markup:
    if tile not in kept:
        kept[tile] = _media(tile)
    return tag("figure", kept[tile], tag("figcaption", caption), class_=f"tile {kind}")


def _media(tile: Tile) -> Markup:
    item = shown(tile)
    if isinstance(item, Missing):
        return tag("p", tag("em", item.words))
    if isinstance(item, str):
        cut = f"{item[:_WORDS]}…" if len(item) > _WORDS else item
        return tag("p", cut)
    alt = text(f"{tile.modality} {tile.caption}")
    if isinstance(item, Sound | View):
        address = data_uri(_drawn(item), "image/png")
    else:
        address = data_uri(_thumbnail(item), "image/jpeg")
    return Markup(f'<img src="{address}" alt="{alt}">')


def _drawn(item: Sound | View) -> bytes:
    style = Style(TRANSPARENT, width=_WIDTH)
    with styled(style):
        figure = new_figure(style, _HEIGHT)
        figure.set_layout_engine("none")
        axis = figure.add_axes((0, 0, 1, 1))
        axis.spines[:].set_visible(False)
        draw(axis, item, style, width=_WIDTH, height=_HEIGHT)
    return rendered(figure, "png", style, dpi=_DPI)


def _thumbnail(image: Any) -> bytes:
    small = image.copy()
    small.thumbnail((_PIXELS, _PIXELS))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=82)
    return data.getvalue()
