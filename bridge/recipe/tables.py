"""The tables of a recipe's file: which there may be, their keys, and sentences about mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bridge.recipe.places import Places
from bridge.recipe.vocabulary import Key, WrongValueError, converted
from features.errors import UnknownNameError, UserError
from features.parsing import read_toml
from features.suggest import did_you_mean

Table = Mapping[str, Any]
_FEW = 30  # keys that are told


class Tables:
    """A recipe's file, of which tables and keys are taken one by one."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises UserError if it is missing or not TOML."""
        self.path = path
        content, text = read_toml(path, "recipe")
        self.content: Table = content
        self.places = Places(path, text)

    def wrong(self, *key: str, told: str, unknown: bool = False) -> UserError:
        """The error that something is wrong at a key; `told` goes on after its name."""
        kind = UnknownNameError if unknown else UserError
        *tables, last = key
        where = f"{self.places.of(*key)}: "
        if not tables:
            return kind(f"{where}{last} {told}")
        return kind(f"{where}{last} of [{'.'.join(tables)}] {told}")

    def table(self, *key: str) -> Table:
        """The table at `key`, empty if there is none. Raises UserError if it is a value."""
        found: Any = self.content
        for depth, name in enumerate(key, start=1):
            found = found.get(name, {})
            if not isinstance(found, dict):
                named = ".".join(key[:depth])
                where = self.places.of(*key[:depth])
                raise UserError(f"{where}: {named} is {found!r} but must be a table, [{named}]")
        return found  # type: ignore[no-any-return]

    def require_known(self, table: Iterable[str], known: Iterable[str], *where: str) -> None:
        """Raise UnknownNameError, with the nearest, unless all names of a table are known."""
        known = list(known)
        for name in table:
            if name not in known:
                of = f"[{'.'.join(where)}]" if where else "a recipe"
                raise UnknownNameError(
                    f"{self.places.of(*where, name)}: {of} has no key '{name}'"
                    f"{did_you_mean(name, known)}: {_told_keys(known, where)}"
                )

    def values(self, keys: Mapping[str, Key], *where: str) -> dict[str, Any]:
        """The values of a table as a command takes them.

        Raises UserError for a key that is not known or a value that it cannot take.
        """
        table = self.table(*where)
        self.require_known(table, keys, *where)
        return {name: self.value(keys[name], value, *where) for name, value in table.items()}

    def value(self, key: Key, value: Any, *where: str) -> Any:
        """One value, converted. Raises UserError if the key cannot take it."""
        try:
            return converted(key, value)
        except WrongValueError as error:
            unknown = bool(key.choices) and isinstance(value, str)
            raise self.wrong(
                *where, key.name, told=f"is {value!r} but {error}", unknown=unknown
            ) from error


def _told_keys(known: list[str], where: tuple[str, ...]) -> str:
    """The keys of a table, or, if they are dozens, where they are listed."""
    if len(known) <= _FEW:
        return f"its keys are {', '.join(known)}"
    return f"`mcr {where[0]} --help` lists its {len(known)} keys" if where else "see `mcr init`"
