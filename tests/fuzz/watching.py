"""Running a reader on one input and seeing whether it behaved.

A reader misbehaves if it raises what it does not document, takes too long, takes much memory,
opens files of others, starts anything, or unpickles a class. What it opens from Python is seen by
an audit hook; what libraries in C open is not, and has tests of its own.
"""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from features.apart import call_apart
from tests.fuzz.target import Target

_STARTS = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen",
    "pickle.find_class", "socket.connect", "ctypes.dlopen", "os.remove", "os.rmdir",
    "shutil.rmtree", "shutil.move",
)  # fmt: skip
_KILOBYTE = 1 << 10
_OWN = tuple(
    os.path.realpath(one)  # noqa: PTH118, RUF100
    for one in (
        *sys.path, *sysconfig.get_paths().values(), Path(__file__).parents[2], sys.prefix,
        sys.base_prefix, "/proc", "/sys", "/dev/null", "/dev/urandom", "/usr",
    )
)  # fmt: skip


class MisbehavedError(Exception):
    """A reader did something that no input may make it do."""


class Watched:
    """A target in a folder of its own; call it with the bytes of a file."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.path = folder / target.file
        self.path.parent.mkdir(parents=True, exist_ok=True)
        target.beside(folder)
        call_apart("os", "getpid")  # starts the process that reads for this one, unwatched
        self.inputs, self.refused = 0, 0
        self._most = _most_bytes()

    def warm(self, seeds: Iterable[bytes]) -> None:
        """Read files that are whole, unwatched: what is imported late is imported now."""
        for seed in seeds:
            self._write(seed)
            with suppress(*self.target.allowed):
                self.target.read(self.path)
        self._most = _most_bytes()

    def __call__(self, content: bytes) -> None:
        """Raises MisbehavedError, or whatever else the reader should not have raised."""
        self._write(content)
        self.inputs += 1
        started = time.process_time()
        with _Audited(self.folder) as audited, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.target.read(self.path)
            except self.target.allowed as error:
                self.refused += 1
                _require_sentence(error)
        if audited.seen:
            raise MisbehavedError(f"it did {audited.seen[0]}")
        taken = time.process_time() - started
        if taken > self.target.seconds:
            raise MisbehavedError(f"it took {taken:.1f} s of processor time")
        grown = _most_bytes() - self._most
        if grown > self.target.memory:
            raise MisbehavedError(f"it took {grown >> 20} MiB of memory")

    def _write(self, content: bytes) -> None:
        # A new file each time: the old one may still be mapped.
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(content)


def _require_sentence(error: Exception) -> None:
    text = str(error)
    if not text.strip() or "Traceback" in text:
        raise MisbehavedError(f"its message is {text!r}") from error
    text.encode("utf-8", "backslashreplace")


def _most_bytes() -> int:
    """The most memory that this process ever had, since it began with its own program."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * _KILOBYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KILOBYTE


class _Audited:
    """Notes what should not happen while a reader reads; of one thread at a time."""

    current: _Audited | None = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = f"{os.path.realpath(folder)}{os.sep}", list[str]()
        if not _Hook.installed:
            _Hook.installed = True
            sys.addaudithook(_Hook.on_event)

    def __enter__(self) -> _Audited:
        _Audited.current = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _Audited.current = None

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode = arguments[0], arguments[1]
            if isinstance(path, int) or self._is_ours(os.fsdecode(path), mode or ""):
                return
            self.seen.append(f"open({path!r}, {mode!r})")
        elif event.startswith(_STARTS) and not self._below(arguments):
            self.seen.append(f"{event}{arguments!r}"[:200])

    def _is_ours(self, path: str, mode: str) -> bool:
        real = os.path.realpath(path)  # noqa: PTH118, RUF100
        reads = not set(mode) & set("wax+")
        return real.startswith(self.folder) or (reads and real.startswith(_OWN))

    def _below(self, arguments: tuple[Any, ...]) -> bool:
        first = arguments[0] if arguments else None
        if not isinstance(first, str | os.PathLike):
            return False
        return os.path.realpath(os.fsdecode(first)).startswith(self.folder)


class _Hook:
    """The hook that is installed once: hooks cannot be removed."""

    installed = False

    @staticmethod
    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if _Audited.current is not None:
            _Audited.current.on_event(event, arguments)
