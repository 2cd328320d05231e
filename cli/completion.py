"""Completion in bash of words with colons, such as encoders: bash takes them apart.

Bash gives `clip:ViT` as the three words `clip`, `:` and `ViT`, and puts what is answered in the
place of the last one. So the words are joined before Typer completes, and what stands before the
last colon is taken from its answers.
"""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout

_WORDS, _PLACE = "COMP_WORDS", "COMP_CWORD"


def completes_in_bash() -> bool:
    """Whether this process was started by bash to complete a command of `mcr`."""
    return os.environ.get("_MCR_COMPLETE") == "complete_bash" and _WORDS in os.environ


def complete_in_bash(app: Callable[[], object]) -> None:
    """Complete, with words that bash took apart at colons whole again."""
    words, place = _joined(os.environ[_WORDS].split("\n"), int(os.environ[_PLACE]))
    os.environ[_WORDS] = "\n".join(shlex.quote(word) if word else word for word in words)
    os.environ[_PLACE] = str(place)
    current = words[place] if place < len(words) else ""
    prefix = current[: current.rfind(":") + 1]
    answer = io.StringIO()
    try:
        with redirect_stdout(answer):
            app()
    finally:
        for line in answer.getvalue().splitlines():
            print(line.removeprefix(prefix))  # noqa: T201


def _joined(words: list[str], place: int) -> tuple[list[str], int]:
    """Words joined around colons, and where the word at `place` went.

    >>> _joined(["mcr", "extract", "-e", "clip", ":", "Vi"], 5)
    (['mcr', 'extract', '-e', 'clip:Vi'], 3)
    """
    joined: list[str] = []
    moved = place
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        if joined and (word == ":" or before == ":"):
            joined[-1] += word
        else:
            joined.append(word)
        if i == place:
            moved = len(joined) - 1
    return joined, moved
