"""TensorBoard: event files in `tracking/tensorboard` of the run; `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from bridge.tracking.tracker import TrackedRun


class TensorBoard:
    """Writes scalars, each step to the disk at once."""

    name = "tensorboard"

    def start(self, run: TrackedRun) -> Mapping[str, int]:
        """Open a file of events beside those of the same run, whose last steps are returned."""
        folder = str(run.folder / self.name)
        held: dict[str, int] = {}
        if run.continued:
            home = "tensorboard.backend.event_processing.event_accumulator"
            kept = import_module(home).EventAccumulator(folder, size_guidance={"scalars": 0})
            kept.Reload()
            held = {tag: kept.Scalars(tag)[-1].step for tag in kept.Tags()["scalars"]}
        writer: Any = import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(folder)
        return held

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write a scalar of each figure."""
        for figure, value in figures.items():
            self._writer.add_scalar(figure, value, step)
        self._writer.flush()

    def finish(self) -> None:
        """Close the file."""
        self._writer.close()
