"""Weights & Biases: a run in the project that WANDB_PROJECT names, else `mcr-bridge`.

WANDB_MODE=offline keeps it in `tracking/wandb` of the run, for `wandb sync`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from bridge.tracking.tracker import PROJECT, TrackedRun, quiet
from features.files import replacing

EPOCH = "epoch"


class Wandb:
    """Logs to a run whose id is kept in the run's folder, with the last step of every figure.

    wandb wants steps of a run to grow, and a mixture's parts begin at 1 each: the epoch is a
    figure of its own, and the axis of the others. What wandb has not written when the process is
    killed is not logged again: what it holds cannot be asked.
    """

    name = "wandb"

    def start(self, run: TrackedRun) -> Mapping[str, int]:
        """Make a run, or go on with the one that is noted in the folder."""
        self._notes: Path = run.folder / "wandb.json"
        known = run.continued and self._notes.exists()
        noted = json.loads(self._notes.read_text("utf-8")) if known else {}
        self._id = noted.get("id") or uuid.uuid4().hex[:8]
        self._held: dict[str, int] = noted.get("steps", {})
        wandb: Any = import_module("wandb")
        with quiet():
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or PROJECT,
                name=run.name,
                id=self._id,
                dir=str(run.folder),
                config=dict(run.settings),
                resume="allow",
                settings=wandb.Settings(silent=True, console="off"),
            )
        self._run.define_metric(EPOCH)
        self._run.define_metric("*", step_metric=EPOCH)
        return dict(self._held)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures, and note that they are."""
        self._run.log({**figures, EPOCH: step})
        self._held.update(dict.fromkeys(figures, step))
        with replacing(self._notes, synced=False) as temporary:
            temporary.write_text(json.dumps({"id": self._id, "steps": self._held}), "utf-8")

    def finish(self) -> None:
        """Wait until wandb has written, or sent, everything."""
        with quiet():
            self._run.finish()
