"""The steps of a recipe: commands with all their options, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = "data"  # the step that makes the demo's numbers; all others are commands


@dataclass(frozen=True)
class Step:
    """One step; its options are those of its command, by name, without defaults.

    out: what it makes, the file or folder that tells whether it is done; of an index in Milvus
    `made` is its address. needs: by option, the
    names of the steps whose outputs it reads. files: by option, files and folders that it reads
    beside those.
    """

    name: str
    command: str
    options: Mapping[str, Any]
    out: Path
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def made(self) -> str:
        """What it makes, as it is told: a path, or the address of an index."""
        return str(self.options.get("out", self.out))

    @property
    def stage(self) -> str:
        """What `--from` and `--only` may call it and its like: the word before the slash."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read and checked.

    path: its file. folder: where everything goes, as the file says it.
    """

    path: Path
    folder: Path
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The step called `name`."""
        return next(step for step in self.steps if step.name == name)
