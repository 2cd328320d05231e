"""Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    padded = [[f" {one} " if one else " " for one in line] for line in lines]
    return "\n".join(f"|{'|'.join(line)}|" for line in padded)


def cell(text: str | None) -> str:
    """Plain text with words in backquotes, so that nothing else in it is taken for Markdown."""
    parts = re.split(r"(`[^`]*`)", (text or "").replace("|", "\\|"))
    return "".join(
        part if part.startswith("`") else re.sub(r"([<*_\[\]])", r"\\\1", part) for part in parts
    )
