"""What the names in a recipe stand for: memories, the bridge, and files that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.recipe.fixed import BY_NAME, EVALUATIONS
from bridge.recipe.step import Step
from bridge.recipe.tables import Tables
from features.errors import UnknownNameError, UserError
from features.extraction.shards import shards_beside
from features.suggest import did_you_mean

_GLOB = frozenset("*?[")
Resolved = tuple[Any, tuple[str, ...], tuple[str, ...]]  # value, names of steps, files


class References:
    """The outputs of a recipe's steps so far, under the names by which tables know them."""

    def __init__(self, tables: Tables, folder: Path) -> None:
        self.tables = tables
        self.folder = folder
        self.made: dict[str, Step] = {}
        self.memories: dict[str, str] = {}  # name -> step
        self.projected: dict[str, str] = {}
        self.existing: dict[str, str] = {}  # name -> file
        self.bridge: Path | None = None

    def is_made(self, path: str) -> bool:
        """Whether some step makes this file, or the folder that it is in."""
        return bool(self._makers(path))

    def exists(self, path: str) -> bool:
        """Whether a file, a folder, shards, or something that a pattern matches is there."""
        if Path(path).exists() or shards_beside(Path(path)):
            return True
        return bool(_GLOB & set(path)) and next(Path().glob(path), None) is not None

    def resolve(self, option: str, value: Any, where: tuple[str, ...], said: str) -> Resolved:
        """The value of an option with names as paths, and what it reads.

        said: how the file calls the option. Raises UserError for a name or path that is not there.
        """
        if isinstance(value, list):
            several = [self.resolve(option, one, where, said) for one in value]
            return (
                [one for one, _, _ in several],
                tuple(name for _, names, _ in several for name in names),
                tuple(file for _, _, files in several for file in files),
            )
        if option == "encoder":
            return value, (), encoder_files(str(value))
        if option in BY_NAME:
            return self._memory(value, where, said)
        evaluation = self.made.get(f"eval/{value}") if option in EVALUATIONS else None
        if evaluation is not None:
            return evaluation.out, (evaluation.name,), ()
        path = str(value)
        makers = self._makers(path)
        if makers:
            return value, makers, ()
        if option == "templates" and not Path(path).exists():
            return value, (), ()  # a list that comes along
        if option != "source" and not self.exists(path):
            raise self.tables.wrong(*where, said, told=f"is {path}, which does not exist")
        return value, (), (path,)

    def _makers(self, path: str) -> tuple[str, ...]:
        inside = {Path(path), *Path(path).parents}
        return tuple(name for name, step in self.made.items() if step.out in inside)

    def _memory(self, value: Any, where: tuple[str, ...], said: str) -> Resolved:
        name, kind = str(value), type(value)
        steps = self.projected if where[0] == "index" else self.memories
        if name in steps:
            return kind(self.made[steps[name]].out), (steps[name],), ()
        path = self.existing.get(name, name)
        if self.exists(path):
            return kind(path), (), (path,)
        known = list(steps) + ([] if where[0] == "index" else list(self.existing))
        if where[0] == "index" and name in {*self.memories, *self.existing}:
            raise UserError(
                f"{self.tables.places.of(*where, said)}: {name} is to be indexed but is not "
                "projected: name it in memories of [project] as well"
            )
        raise UnknownNameError(
            f"{self.tables.places.of(*where, said)}: {said} of [{'.'.join(where)}] names "
            f"'{name}', which is neither a memory of this recipe{did_you_mean(name, known)} nor a "
            f"file: its memories are {', '.join(known) or 'none'}"
        )


def encoder_files(spec: str) -> tuple[str, ...]:
    """Files and folders in an encoder's spec, such as its checkpoint."""
    _, _, argument = spec.partition(":")
    parts = [argument, *argument.split(","), *(p.partition("=")[2] for p in argument.split(","))]
    parts += [part.partition(":")[2] for part in argument.split(",")]  # local-dir:FOLDER
    return tuple(dict.fromkeys(part for part in parts if part and Path(part).exists()))
