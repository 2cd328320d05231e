"""Clocks that jump: of the process, between a run that is killed and the next, and of its files."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

from tests.faults.by_signals import check_parts, finish
from tests.faults.commands import BY_NAME, Stage
from tests.faults.fault import Fault

DAY = 86_400.0
# Python runs a module of this name when it starts.
_SHIFT = """
import time
_now, _now_ns = time.time, time.time_ns
time.time = lambda: _now() + {shift}
time.time_ns = lambda: _now_ns() + int({shift} * 1e9)
"""


def inject(stage: Stage, folder: Path, rng: random.Random) -> str:
    """Kill a run, set its files' times and the clock elsewhere, and continue it."""
    folder, whole = folder.resolve(), stage.whole()
    work, clock = folder / "work", folder / "clock"
    stage.begin(work)
    clock.mkdir()
    shifts = [rng.uniform(-900, 900) * DAY for _ in range(3)]
    process = stage.start(work, env=_shifted(clock, shifts[0]))
    time.sleep(rng.uniform(min(whole.first_change, whole.seconds), whole.seconds))
    process.send(signal.SIGKILL)
    process.end()
    for path in sorted(work.rglob("*")):
        moved = time.time() + rng.choice((shifts[1], rng.uniform(-900, 900) * DAY))
        os.utime(path, (moved, moved))
    check_parts(stage, work)
    env = _shifted(clock, shifts[2])
    ended = stage.start(work, env=env).end()
    assert "Traceback" not in ended.stderr, ended
    if any("were changed after" in line for line in ended.sentences):
        # It is older than what it was made from, by the clock: made again, as the message says.
        assert ended.code == 1, ended
        ended = stage.start(work, env=env, more=("--overwrite",)).end()
        assert ended.code == stage.code, ended
        for path in work.rglob("*"):
            os.utime(path)
    finish(stage, work)
    return f"by {', '.join(f'{shift / DAY:+.0f}' for shift in shifts)} days: {ended.code}"


def _shifted(folder: Path, shift: float) -> dict[str, str]:
    """The environment of a process whose clock is `shift` seconds ahead."""
    (folder / "sitecustomize.py").write_text(_SHIFT.format(shift=shift))
    return {"PYTHONPATH": str(folder)}


FAULTS = [
    Fault(name, "clock jump", partial(inject, BY_NAME[name]))
    for name in ("extract", "shard", "import", "pseudo-pairs", "train", "run")
]
