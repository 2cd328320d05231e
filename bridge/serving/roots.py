"""The folders that files are sent from: memories name them, and may come from somebody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from features.errors import UserError


def file_roots(roots: Mapping[str, str | None]) -> dict[Path, list[str]]:
    """Each folder, and the collections whose items' files lie in it.

    roots: collection -> the `root` of its memory, None where its items are no files.
    """
    found: dict[Path, list[str]] = {}
    for name, root in roots.items():
        if root is not None:
            found.setdefault(Path(root).resolve(), []).append(name)
    return found


def check_roots(roots: Mapping[Path, Sequence[str]], allowed: Iterable[Path]) -> None:
    """Raises UserError for a folder that holds the user's home folder, and was not allowed."""
    home = Path("/")
    with suppress(RuntimeError):  # there is none
        home = Path.home().resolve()
    known = {path.resolve() for path in allowed}
    for root, names in roots.items():
        if home.is_relative_to(root) and root not in known:
            which = f"{root}, which holds {home}" if root != home else f"the home folder {root}"
            raise UserError(
                f"{' and '.join(names)} would have files sent from all of {which}: if that is "
                f"meant, give --files {root}, else extract the memory from a narrower folder"
            )
