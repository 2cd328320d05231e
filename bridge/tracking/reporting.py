"""Figures on their way to all trackers: each step once, and no tracker ends a training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bridge.runs.layout import TRACKING_FOLDER
from bridge.tracking.tracker import TrackedRun, Tracker

Report = Callable[[int, Mapping[str, float]], None]  # called with a step and its figures
Answer = TypeVar("Answer")


class TrackerFailed(UserWarning):
    """A tracker raised an error and gets no more figures."""


class Reporter:
    """Hands figures to trackers, those that they have already left out."""

    def __init__(self, trackers: Sequence[Tracker], run: TrackedRun) -> None:
        """Start all trackers with `run`."""
        self._running: list[tuple[Tracker, dict[str, int]]] = []
        for tracker in trackers:
            held = _attempt(tracker, "start", lambda tracker=tracker: tracker.start(run))  # type: ignore[misc]
            if held is not None:
                self._running.append((tracker, dict(held)))

    def log(self, step: int, figures: Mapping[str, float], *, part: str = "") -> None:
        """Figures of a step of a part of a bridge, or of the whole.

        A training that goes on after a kill repeats steps to the same figures: they are skipped.
        """
        named = {f"{part}/{name}" if part else name: value for name, value in figures.items()}
        for tracker, held in list(self._running):
            new = {name: value for name, value in named.items() if held.get(name, 0) < step}
            if not new:
                continue
            done = _attempt(tracker, "log", lambda: tracker.log(step, new) or True)  # type: ignore[func-returns-value]  # noqa: B023
            if done is None:
                self._running.remove((tracker, held))
            held.update(dict.fromkeys(new, step))

    def of_part(self, part: str) -> Report:
        """What a part of a mixture reports to."""
        return lambda step, figures: self.log(step, figures, part=part)

    def finish(self) -> None:
        """Finish all trackers that are left."""
        for tracker, _ in self._running:
            _attempt(tracker, "finish", lambda tracker=tracker: tracker.finish() or True)  # type: ignore[misc]
        self._running.clear()


@contextmanager
def tracked(
    trackers: Sequence[Tracker], out: Path, settings: Mapping[str, Any], *, continued: bool
) -> Iterator[Reporter]:
    """A reporter of the run in `out`; trackers are finished however the block ends."""
    folder = out / TRACKING_FOLDER
    if trackers:
        folder.mkdir(parents=True, exist_ok=True)
    reporter = Reporter(trackers, TrackedRun(out.resolve().name, folder, settings, continued))
    try:
        yield reporter
    finally:
        reporter.finish()


def untracked(step: int, figures: Mapping[str, float]) -> None:
    """The report of a training that nobody tracks."""


def _attempt(tracker: Tracker, what: str, action: Callable[[], Answer]) -> Answer | None:
    """What `action` returns, or None, told, if it fails."""
    try:
        return action()
    except Exception as error:  # of any library: a figure is not worth a training
        reason = " ".join(str(error).split()) or type(error).__name__
        warnings.warn(
            f"the tracker {tracker.name} failed ({what}: {reason}) and gets no more figures; the "
            "training goes on, and metrics.jsonl has them all",
            TrackerFailed,
            stacklevel=3,
        )
        return None
