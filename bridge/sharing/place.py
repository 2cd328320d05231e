"""Where a bridge is pushed to or pulled from: a plain folder, or a repository of the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from features.errors import UsageError

HUB = "hf:"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"


@dataclass(frozen=True)
class Place:
    """One of the two: `folder`, or `repo`, OWNER/NAME on the Hub."""

    folder: Path | None = None
    repo: str | None = None

    def __str__(self) -> str:
        return f"{HUB}{self.repo}" if self.folder is None else str(self.folder)


def place_named(text: str) -> Place:
    """`hf:OWNER/NAME` is a repository, and so is OWNER/NAME where no folder OWNER is here.

    Everything else is a folder. Raises UserError for a repository that cannot be called so.
    """
    name = text.removeprefix(HUB)
    owner, separator, _ = name.partition("/")
    is_repo = re.fullmatch(f"{_NAME}/{_NAME}", name) is not None
    if text.startswith(HUB):
        if not is_repo or "--" in name or ".." in name:
            raise UsageError(f"{text} is no repository of the Hub: it should read hf:OWNER/NAME")
        return Place(repo=name)
    if is_repo and separator and not Path(owner).exists():
        return Place(repo=name)
    return Place(folder=Path(text).expanduser())
