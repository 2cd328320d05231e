"""The name that somebody may have meant, of those that there are."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from features.errors import UnknownNameError


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """The known name most like `word`, however it is capitalised; None if none is alike.

    >>> nearest_name("besst", ["published", "best"])
    'best'
    >>> nearest_name("Hub", ["leaf", "all"]) is None
    True
    """
    folded = {name.lower().replace("_", "-"): name for name in known}
    close = get_close_matches(word.lower().replace("_", "-"), folded, 1)
    return folded[close[0]] if close else None


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error that `what`, such as a theme, is not called `name`.

    >>> str(unknown("theme", "drak", ["light", "dark"]))
    "there is no theme 'drak' (did you mean dark?): choose light or dark"
    """
    names = list(known)
    *others, last = names
    listed = f"{', '.join(others)} or {last}" if others else last
    return UnknownNameError(
        f"there is no {what} '{name}'{did_you_mean(name, names)}: choose {listed}"
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean NAME?)` to put behind a wrong name, or nothing if no name is alike."""
    name = nearest_name(word, known)
    return f" (did you mean {name}?)" if name is not None else ""
