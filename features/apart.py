"""Calls in a process apart, of libraries that a file can make crash or go in circles.

One process is started at the first call and stays; each call is a fork of it, so that a call
costs milliseconds, and what a file does to it ends with it.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE = 20  # seconds for a call
_SERVE = "from features.apart import serve; serve()"


class LostError(Exception):
    """The call crashed its process, or did not end in time."""


class _Server:
    """The process that forks for every call."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE], cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        )  # fmt: skip
        atexit.register(self.close)

    def ask(self, question: list[Any]) -> Any:
        """The answer to one line, or None if it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        """End it: it ends by itself when nobody can ask any more."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def forget(self) -> None:
        """Leave it to the process that this one is a fork of."""
        self.close()
        self.process.returncode = 0


_lock = threading.Lock()
_server: _Server | None = None


def _begin_anew() -> None:
    global _lock, _server
    if _server is not None:
        _server.forget()
    _lock, _server = threading.Lock(), None


os.register_at_fork(after_in_child=_begin_anew)


def call_apart(module: str, function: str, *arguments: str) -> Any:
    """What `function(*arguments)` of a module returns, as JSON holds it, from a process apart.

    Paths must be absolute. Raises LostError if it crashed or took longer than `PATIENCE`;
    ValueError with what it said if it raised anything.
    """
    global _server
    with _lock:
        if _server is None or _server.process.poll() is not None:
            _server = _Server()
        answer = _server.ask([PATIENCE, module, function, *arguments])
    if answer is None:
        raise LostError(f"{module}.{function} ended")
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["result"]


def serve() -> None:
    """Answer calls, one a line, until nobody can ask any more."""
    for line in sys.stdin.buffer:
        patience, module, function, *arguments = json.loads(line)
        called = getattr(importlib.import_module(module), function)
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(source)
            signal.alarm(patience)  # ends it in the midst of foreign code, too
            _answer(called, arguments, sink)
        os.close(sink)
        with os.fdopen(source, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(child, 0)
        sys.stdout.buffer.write((told if status == 0 else b"null") + b"\n")
        sys.stdout.buffer.flush()


def _answer(called: Any, arguments: list[str], sink: int) -> None:
    try:
        answer = {"result": called(*arguments)}
    except BaseException as error:
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    with os.fdopen(sink, "wb") as pipe:
        pipe.write(json.dumps(answer).encode())
    os._exit(0)
