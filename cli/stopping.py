"""Ctrl-C and SIGTERM: a command that gets one tidies up, says so, and ends.

Either is raised once, as an exception, so that what was begun is closed as after any other. A
second signal ends the process at once, which loses nothing: all that is written can bear a kill.
Outside of a command there is nothing to tidy up, and the system ends the process without a word.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SOON = 0.01  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""


class Stop:
    """came: the signal, None before."""

    came: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """What a shell makes of the signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.came or signal.SIGINT)

    def take(self, number: int, _frame: object) -> None:
        """Handle a signal."""
        self.came = signal.Signals(number)
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        raise Stopped

    def take_again(self) -> None:
        """Have the signal come once more, when the one who calls has returned."""
        assert self.came is not None
        signal.signal(self.came, self.take)
        later = threading.Timer(_SOON, os.kill, (os.getpid(), self.came))
        later.daemon = True
        later.start()


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Raise Stopped in the block when a signal comes; ignored ones, as `nohup` does, stay so."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # where Python lets nobody handle signals
        return
    before = {one: signal.getsignal(one) for one in SIGNALS}
    hook = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: _not_lost(unraisable, stop, hook)
    try:
        for one, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(one, stop.take)
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        sys.unraisablehook = hook


def die_silently() -> None:
    """Let the system end the process at a signal, until `stoppable` and after it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _not_lost(unraisable: Any, stop: Stop, hook: Any) -> None:
    """Python drops what is raised in a finaliser or a callback of the garbage collector."""
    if isinstance(unraisable.exc_value, Stopped):
        stop.take_again()
    else:
        hook(unraisable)
