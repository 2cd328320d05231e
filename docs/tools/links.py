"""Links between the repository's Markdown pages, as they are written: relative to their file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCED = re.compile(r"^(```+).*?^\1", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()(?!https?:)([^)\s#]*)(#[^)\s]*)?(?=\))")


def pages() -> list[Path]:
    """The documents that are written for users, README.md first."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def prose(text: str) -> str:
    """A page without its fenced blocks, which hold code and no links."""
    return _FENCED.sub("", text)


def links(text: str) -> Iterator[tuple[str, str]]:
    """Targets in the repository, as (path, anchor); either may be empty."""
    for match in _LINK.finditer(prose(text)):
        yield match[2], (match[3] or "").removeprefix("#")


def relinked(text: str, change: Callable[[str], str]) -> str:
    """The page with the path of every link into the repository changed."""
    return _LINK.sub(
        lambda match: match[1] + (change(match[2]) if match[2] else "") + (match[3] or ""), text
    )


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", prose(text), flags=re.MULTILINE):
        name, number = slug(heading), 0
        while (unique := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(unique)
    return found


def slug(heading: str) -> str:
    """The anchor of a heading, without the number that a second one of the name gets."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
