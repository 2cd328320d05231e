"""What a tracker is, and those that there are by name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from sys import stderr
from typing import Any, Protocol

from features.extras import require_package
from features.suggest import unknown

PROJECT = "mcr-bridge"  # what trackers with projects call that of all runs

# name -> package that it needs, and the class
TRACKERS = {
    "tensorboard": ("tensorboard", "bridge.tracking.tensorboard:TensorBoard"),
    "trackio": ("trackio", "bridge.tracking.trackio:Trackio"),
    "wandb": ("wandb", "bridge.tracking.wandb:Wandb"),
}


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    folder: for the tracker's own files, kept as long as the run goes on. continued: whether the
    run was under way before, so that the tracker may know it.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    continued: bool


class Tracker(Protocol):
    """Shows figures of a run. Any method may raise anything: the training goes on without it."""

    name: str

    def start(self, run: TrackedRun) -> Mapping[str, int]:
        """Begin, or go on with, a run. Returns the last step that it has of every figure."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take figures of a step, counted from 1; a figure's steps come in order."""

    def finish(self) -> None:
        """Write what is left."""


def tracker_named(name: str) -> Tracker:
    """The tracker called `name`. Raises UserError if there is none, or its package is missing."""
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    package, home = TRACKERS[name]
    require_package(package, f"--track {name}")
    module, _, kind = home.partition(":")
    made: Tracker = getattr(import_module(module), kind)()
    return made


def quiet() -> AbstractContextManager[Any]:
    """What a tracker prints goes to stderr: stdout is for answers."""
    return redirect_stdout(stderr)
