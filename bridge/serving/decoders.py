"""The processes that decode files: started when they are needed, killed when they take too long."""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bridge.serving.limits import Limits
from bridge.serving.refusal import BUSY, UNPROCESSABLE, Refusal, too_slow

_HEADER, _PAYLOAD = 1 << 16, 1 << 29  # bytes of an answer at most
_PIECE = 1 << 20


@dataclass(frozen=True)
class Decoded:
    """What was made of a file, and what of it was left out, in words."""

    content: bytes
    note: str | None


class Decoders:
    """A few processes, each of which decodes one file at a time."""

    def __init__(self, limits: Limits, *, processes: int = 3, waiting: int = 256) -> None:
        """waiting: files that wait for a process at most."""
        self.processes, self._limits = processes, limits
        self._idle: queue.LifoQueue[_Decoder | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)  # not started yet
        self._waiting = threading.BoundedSemaphore(processes + waiting)
        self._closed = False

    def warm(self) -> None:
        """Start one process, which takes a while, before it is needed, unless there is one."""
        try:
            decoder = self._idle.get_nowait()
        except queue.Empty:  # all are at work
            return
        try:
            decoder = decoder or _Decoder(self._limits)
        finally:
            self._give_back(decoder)

    def run(self, task: str, path: Path, deadline: float | None = None) -> Decoded:
        """What the task of `bridge.serving.tasks` makes of a file.

        deadline: of the whole request, by `time.monotonic()`; unset, so many seconds from now.
        Raises Refusal if the file is not fit, it takes too long, or too many are waiting.
        """
        if not self._waiting.acquire(blocking=False):
            raise Refusal(BUSY, "too many files are waiting to be read: try again in a second")
        try:
            return self._run(task, path, deadline or time.monotonic() + self._limits.seconds)
        finally:
            self._waiting.release()

    def close(self) -> None:
        """End the processes that are idle, and those that are not once they are."""
        self._closed = True
        while not self._idle.empty():
            decoder = self._idle.get()
            if decoder is not None:
                decoder.kill()

    def _run(self, task: str, path: Path, deadline: float) -> Decoded:
        try:
            decoder = self._idle.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Refusal(BUSY, "too many files are being read: try again in a second") from None
        alive: _Decoder | None = None
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                alive = decoder
                raise too_slow(self._limits)
            decoder = decoder or _Decoder(self._limits)
            told, content = decoder.ask(task, path, min(left, self._limits.decode_seconds))
            alive = decoder
        except TimeoutError:
            seconds = self._limits.decode_seconds
            if left < seconds:
                raise too_slow(self._limits) from None
            raise Refusal(UNPROCESSABLE, f"it takes longer than {seconds:g} s to decode") from None
        except (OSError, ValueError):
            raise Refusal(UNPROCESSABLE, "it ended the process that decoded it") from None
        finally:
            if alive is None and decoder is not None:
                decoder.kill()
            self._give_back(alive)
        if told["status"] != 200:
            raise Refusal(int(str(told["status"])), str(told["detail"]))
        note = told.get("note")
        return Decoded(content, None if note is None else str(note))

    def _give_back(self, decoder: _Decoder | None) -> None:
        if self._closed and decoder is not None:
            decoder.kill()
            decoder = None
        self._idle.put(decoder)


def _environment() -> dict[str, str]:
    """Of a process: it finds this package, takes no module from the folder it is started in."""
    here = str(Path(__file__).parents[2])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return {
        **os.environ, **one_thread, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)
    }  # fmt: skip


class _Decoder:
    """One process."""

    def __init__(self, limits: Limits) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bridge.serving.decoder", json.dumps(asdict(limits))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the server, which ends it
        )  # fmt: skip

    def ask(self, task: str, path: Path, seconds: float) -> tuple[dict[str, object], bytes]:
        """The answer to a task. Raises TimeoutError, or EOFError's kin if the process ended."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"task": task, "path": str(path)}).encode() + b"\n")
        stdin.flush()
        deadline = time.monotonic() + seconds
        received = bytearray()
        while b"\n" not in received:
            if len(received) > _HEADER:
                raise ValueError("the answer has no end")
            received += self._read(deadline)
        header, _, rest = bytes(received).partition(b"\n")
        told: dict[str, object] = json.loads(header)
        size = int(str(told["bytes"]))
        if not 0 <= size <= _PAYLOAD:
            raise ValueError("the answer is too large")
        content = bytearray(rest)
        while len(content) < size:
            content += self._read(deadline)
        return told, bytes(content)

    def _read(self, deadline: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        piece = os.read(stdout.fileno(), _PIECE)
        if not piece:
            raise ConnectionError("the process ended")
        return piece

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
