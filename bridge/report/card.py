"""The model card beside a bridge, brought up to date with its results."""

from __future__ import annotations

from pathlib import Path

from bridge.card import card_with, model_card
from bridge.report.contents import Contents
from bridge.runs.layout import CARD_FILE
from features.files import replacing


def update_card(contents: Contents, *, licence: str | None = None) -> Path:
    """Put the report's results in place of the card's; what its owner wrote stays."""
    path, made = contents.folder / CARD_FILE, contents.bridge
    card = path.read_text(encoding="utf-8") if path.is_file() else model_card(made)
    results = [one.result for one in contents.results]
    with replacing(path) as temporary:
        temporary.write_text(
            card_with(card, made, results=results, licence=licence), encoding="utf-8"
        )
    return path
