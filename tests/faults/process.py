"""A real `mcr` in a session of its own, and everything that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds until a process that should end counts as alive
_COMMAND = "from cli.start import run; run()"


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: as a shell tells it. left: processes that outlived it."""

    code: int
    stdout: str
    stderr: str
    left: list[int]

    @property
    def sentences(self) -> list[str]:
        """The lines of stderr but those of progress bars."""
        lines = (line.strip() for line in self.stderr.splitlines())
        return [line for line in lines if line and not set(line) & set("━╸╺")]


class Process:
    """A running command."""

    def __init__(
        self, arguments: Sequence[object], folder: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        env = dict(env or {})
        path = os.pathsep.join([*filter(None, [env.pop("PYTHONPATH", "")]), str(ROOT)])
        told = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **env}
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *map(str, arguments)],
            cwd=folder, env={**os.environ, **told}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            # A job in the background of a shell has Ctrl-C ignored, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def running(self) -> bool:
        """Whether the command itself has not ended."""
        return self.popen.poll() is None

    def begun(self) -> bool:
        """Whether Python itself has started; before, a signal belongs to it."""
        try:
            status = Path(f"/proc/{self.popen.pid}/status").read_text()
        except OSError:
            return True
        caught = int(status.partition("SigCgt:")[2].split(maxsplit=1)[0], 16)
        return bool(caught & 1 << (signal.SIGTERM - 1))

    def others(self) -> list[int]:
        """The processes that the command started, and they."""
        return [pid for pid in _session(self.popen.pid) if pid != self.popen.pid]

    def send(self, number: int, to: int | None = None) -> bool:
        """Signal the process `to`, or all at once as a terminal does; False if it has ended."""
        try:
            if to is None:
                os.killpg(self.popen.pid, number)
            else:
                os.kill(to, number)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> Ended:
        """Wait for the end of the command and of what it started."""
        try:
            stdout, stderr = self.popen.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            stdout, stderr = self.popen.communicate()
            raise AssertionError(f"it did not end: {stderr}") from None
        stop = time.monotonic() + 10
        while (left := _session(self.popen.pid)) and time.monotonic() < stop:
            time.sleep(0.02)
        for one in left:
            self.send(signal.SIGKILL, one)
        code = self.popen.returncode
        return Ended(128 - code if code < 0 else code, stdout, stderr, left)


def _session(leader: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == leader and state != "Z":
            found.append(int(folder.name))
    return found
