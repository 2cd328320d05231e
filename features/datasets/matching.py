"""Finding the rows of a memory that an annotation names.

Annotations name files as their authors had them, memories as they lie here. A name is that of a row
if it is its id, or the end of no other id but its, from a `/` on, with or without a suffix.
"""

from __future__ import annotations

from collections.abc import Sequence

from features.errors import UserError

_TWICE = -1


class RowsByName:
    """Rows of ids by every ending of theirs."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self._rows: dict[str, int] = {}
        for row, one in enumerate(ids):
            for name in _endings(one):
                self._rows[name] = row if self._rows.get(name, row) == row else _TWICE
        self._rows.update((one, row) for row, one in enumerate(ids))

    def find(self, name: str) -> int | None:
        """The row of `name`, or None. Raises UserError if several rows end so."""
        for candidate in (name, _without_suffix(name)):
            row = self._rows.get(candidate)
            if row == _TWICE:
                ends = [one for one in self._ids if candidate in _endings(one)]
                raise UserError(
                    f"the name {name} is that of several items, {ends[0]} and {ends[1]}: extract "
                    "them from a folder in which names are unique, or give full names"
                )
            if row is not None:
                return row
        return None


def _endings(one: str) -> set[str]:
    parts = one.split("/")
    wholes = {"/".join(parts[start:]) for start in range(len(parts))}
    return wholes | {_without_suffix(whole) for whole in wholes}


def _without_suffix(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    stem, dot, _ = last.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else name
