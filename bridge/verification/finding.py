"""What was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from features.errors import UserError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    state: `good`, `note` for what may be as meant, or `bad`. told: what was found, and for others
    than good what to do.
    """

    path: str
    state: Literal["good", "note", "bad"]
    told: str


def tried(path: Path, opened: Callable[[], Any]) -> tuple[Any, list[Finding]]:
    """What was opened, or what `mcr verify` says of its damage."""
    try:
        return opened(), []
    except UserError as error:
        return None, [Finding(str(path), "bad", str(error))]
