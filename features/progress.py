"""How long work tells how far it is, without knowing who watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]  # called with how many more units are done


class Progress(Protocol):
    """Shows tasks; `cli.progress` draws bars on stderr, `SILENT` nothing."""

    def task(
        self, description: str, total: int, *, unit: str = "items", done: int = 0
    ) -> AbstractContextManager[Advance]:
        """Show a task of `total` units, `done` of which were finished before."""


class _Silent:
    @contextmanager
    def task(
        self,
        description: str,  # noqa: ARG002
        total: int,  # noqa: ARG002
        *,
        unit: str = "items",  # noqa: ARG002
        done: int = 0,  # noqa: ARG002
    ) -> Iterator[Advance]:
        yield lambda _: None


SILENT: Progress = _Silent()
