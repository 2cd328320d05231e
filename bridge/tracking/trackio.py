"""trackio: a run in its local database, project `mcr-bridge`; `trackio show`.

TRACKIO_DIR, TRACKIO_PROJECT and TRACKIO_SPACE_ID mean what they mean everywhere; steps that a
Space has already are not known here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from bridge.tracking.tracker import PROJECT, TrackedRun, quiet


class Trackio:
    """Logs to the run of the same name, which a continued training goes on with."""

    name = "trackio"

    def start(self, run: TrackedRun) -> Mapping[str, int]:
        """Make the run, or find it in the database with the last step of every figure."""
        project = os.environ.get("TRACKIO_PROJECT") or PROJECT
        with quiet():
            self._trackio: Any = import_module("trackio")
            started = self._trackio.init(
                project=project,
                name=run.name,
                config=dict(run.settings),
                resume="allow" if run.continued else "never",
                embed=False,
                auto_log_gpu=False,  # the machine is not what was asked for
                auto_log_cpu=False,
            )
        if not run.continued:
            return {}
        storage: Any = import_module("trackio.sqlite_storage").SQLiteStorage
        held: dict[str, int] = {}
        for line in storage.get_logs(project, run.name, run_id=started.id):
            held.update(dict.fromkeys(line.keys() - {"step", "timestamp"}, line["step"]))
        return held

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Queue the figures; trackio writes them twice a second."""
        self._trackio.log(dict(figures), step=step)

    def finish(self) -> None:
        """Wait for the queue."""
        with quiet():
            self._trackio.finish()
