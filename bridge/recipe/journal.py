"""What the steps of a recipe have made, from what, and how long it took.

`FOLDER/journal.json`, beside the outputs. An entry is written before its step begins and again when
it is done, so that a kill at any moment leaves it known what may be continued.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.errors import UserError
from features.files import explained, replacing
from features.locks import take_lock
from features.sealed import read_sealed, sealed

FORMAT = "mcr-bridge journal 1"
NAME = "journal.json"


@dataclass(frozen=True)
class Entry:
    """One step, as it was last begun or done.

    key: hash of `parts`, what it was made from. before: state of its output when it began.
    state: of its output when it was done, None while it is not. seconds: that it took, in all runs
    that did not end in a kill. failed: items that could not be embedded.
    """

    key: str
    parts: Mapping[str, Mapping[str, Any]]
    before: str | None = None
    state: str | None = None
    seconds: float = 0.0
    failed: int = 0

    @property
    def done(self) -> bool:
        """Whether it was finished."""
        return self.state is not None


class Journal:
    """The entries by the steps' names."""

    def __init__(self, folder: Path, recipe: Path) -> None:
        """Read the journal of `folder`. Raises UserError if it is damaged or of another recipe."""
        self.path = folder / NAME
        self.recipe = Path(os.path.relpath(recipe, folder)).as_posix()  # both may be moved
        self.entries: dict[str, Entry] = {}
        if self.path.exists():
            self._read()

    def __setitem__(self, name: str, entry: Entry) -> None:
        self.entries[name] = entry
        steps = {name: asdict(one) for name, one in self.entries.items()}
        content = {"format": FORMAT, "recipe": self.recipe, "steps": steps}
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(sealed(content), indent=1) + "\n", encoding="utf-8")

    def get(self, name: str) -> Entry | None:
        """The entry of a step, if it was ever begun."""
        return self.entries.get(name)

    def _read(self) -> None:
        try:
            content = read_sealed(self.path)
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}")
            other = str(content["recipe"])
            self.entries = {name: Entry(**one) for name, one in content["steps"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.path} is damaged ({error}): remove it, and run the recipe with --force to "
                "make everything again"
            ) from error
        if other != self.recipe and _exists(self.path.parent / other):
            folder = self.path.parent
            theirs, mine = (os.path.normpath(folder / one) for one in (other, self.recipe))
            raise UserError(
                f"{folder} holds what {theirs} made, and this recipe is {mine}: give another "
                "folder in one of them"
            )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process run a recipe into `folder` during the block.

    Raises UserError if one does already.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(
            folder / ".journal.lock",
            f"another process runs a recipe into {folder}: wait for it, or give another folder",
        )
    with lock:
        yield
