"""Progress bars on stderr, with speed and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from features.progress import Advance


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        shown = "" if speed is None else f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
        return Text(f"{shown} {task.fields['unit']}/s" if shown else "", style="dim")


class BarProgress:
    """`features.progress.Progress` as bars, one a task."""

    @contextmanager
    def task(
        self, description: str, total: int, *, unit: str = "items", done: int = 0
    ) -> Iterator[Advance]:
        """Show a bar of `total` units until the block ends."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            _Speed(),
            TimeRemainingColumn(compact=True),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(description, total=total, completed=done, unit=unit)
            yield lambda count: bars.advance(task, count)
