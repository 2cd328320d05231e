"""HTML by hand: everything that comes from files is escaped here."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from bridge.pictures.canvas import Style, rendered
from bridge.pictures.palette import DARK, LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Style], "Figure"]


class Markup(str):
    """Text that is HTML already; anything else is escaped."""

    __slots__ = ()


def text(value: object) -> Markup:
    """`value` as HTML: escaped, unless it is markup."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def tag(name: str, *inside: object, **attributes: str | None) -> Markup:
    """An element; `class_` is the attribute class, `aria_label` is aria-label."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{joined(inside)}</{name}>")


def joined(parts: Iterable[object]) -> Markup:
    """Parts one after the other."""
    return Markup("".join(text(part) for part in parts))


def code(value: object) -> Markup:
    """A name of a file, a command or a hash."""
    return tag("code", value)


def table(
    head: Sequence[object], rows: Iterable[Sequence[object]], *, class_: str | None = None
) -> Markup:
    """A table in a box that scrolls by itself where the page is narrow."""
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    return tag("div", tag("table", top, tag("tbody", *body), class_=class_), class_="scroll")


def section(title: str, *inside: object) -> Markup:
    """A part of the page with a heading."""
    return tag("section", tag("h2", title), *inside)


def picture(draw: Draw, alt: str, caption: object) -> Markup:
    """A drawing for light and dark pages, in the page itself. alt: what is seen, in words."""
    light, dark = (
        data_uri(rendered(draw(style), "svg", style), "image/svg+xml")
        for style in (Style(LIGHT, outlined=True), Style(DARK, outlined=True))
    )
    source = Markup(
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(alt)}">'
    )
    drawn = tag("div", tag("picture", source), class_="scroll")
    return tag("figure", drawn, tag("figcaption", caption))


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"
