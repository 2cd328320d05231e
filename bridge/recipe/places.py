"""Where in a TOML file a key stands, for the sentences about it; `tomllib` does not tell."""

from __future__ import annotations

import re
from pathlib import Path

_HEADER = re.compile(r"^\s*\[+\s*(?P<name>[^\[\]#]+?)\s*\]+\s*(#.*)?$")
_KEY = re.compile(r"^\s*(?P<name>[\w\"'.-]+?)\s*=")
_PART = re.compile(r"""\s*"[^"]*"|\s*'[^']*'|[^.]+""")  # dots in quotes are part of a name
_QUOTES = "\"'"


class Places:
    """The lines of a file's tables and keys."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _HEADER.match(line):
                table = _parts(header["name"])
                self._lines.setdefault(table, number)
            elif key := _KEY.match(line):
                self._lines.setdefault((*table, *_parts(key["name"])), number)

    def of(self, *key: str) -> str:
        """`FILE, line 12`, of a key or else of the table that it is, or would be, in."""
        for length in range(len(key), 0, -1):
            if key[:length] in self._lines:
                return f"{self.path}, line {self._lines[key[:length]]}"
        return str(self.path)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.strip().strip(_QUOTES) for part in _PART.findall(name))
