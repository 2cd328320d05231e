"""What a page tells its reader to type, in the order of the page.

Lines that are indented by four are commands; so are the lines of a fenced `console` block that
begin with `$ `, and what follows them is what they print. A fenced `python` block is a program.
A fenced `sh` block is a command for another machine: a comment above it,
`<!-- not run: REASON -->`, says why it is not run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+?) -->\n+)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Step:
    """A command or a program. output: what the page shows of it. why: it is not run."""

    kind: str
    text: str
    output: str = ""
    why: str | None = None

    @property
    def words(self) -> set[str]:
        """The words of the output; numbers differ between machines."""
        return set(re.findall(r"\b[A-Za-z]{4,}\b", self.output))


def steps(page: Path) -> list[Step]:
    """All of them; fences of other kinds (TOML, text) hold nothing to run."""
    return list(_steps(page.read_text(encoding="utf-8")))


def _steps(text: str) -> Iterator[Step]:
    end = 0
    for fence in _FENCE.finditer(text):
        yield from _indented(text[end : fence.start()])
        end = fence.end()
        body, kind = fence["body"], fence["kind"]
        if kind == "console":
            yield from _session(body)
        elif kind in ("python", "sh"):
            yield Step(kind, body, why=fence["why"])
    yield from _indented(text[end:])


def _indented(text: str) -> Iterator[Step]:
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    for line in re.findall(r"^ {4}(\S.*)$", joined, flags=re.MULTILINE):
        yield Step("command", line)


def _session(body: str) -> Iterator[Step]:
    joined = re.sub(r"\s*\\\n>?\s*", " ", body)
    for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Step("command", command, output)
