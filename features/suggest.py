"""The name that somebody may have meant, of those that there are."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean NAME?)` to put behind a wrong name, or nothing if no name is alike."""
    name = nearest_name(word, known)
    return f" (did you mean {name}?)" if name is not None else ""
