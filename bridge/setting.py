"""How a training setting is declared."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(default: Any, text: str, **limits: Any) -> Any:
    """A field of frozen settings: its default, its help, and what is checked of its value.

    limits: `choices`, `low` and `high` (inclusive), `above` and `below` (exclusive), and `of`, the
    methods and objectives that it belongs to, separated by spaces; without it, to all.
    """
    return field(default=default, metadata={"help": text, **limits})
