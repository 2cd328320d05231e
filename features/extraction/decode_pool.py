"""Worker processes that run an encoder's input function over batches of items, in order.

Every worker has a thread here that asks it, and that knows how long it has been at an item: one
that hangs is ended and replaced, and one that dies takes nothing with it but the item that killed
it. What it was asked for is asked again, item by item.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from multiprocessing import forkserver
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import ItemError, UserError
from features.extraction.decode_worker import DECODED, IDLE, STOPPED, Decoded, work

if TYPE_CHECKING:
    from features.encoders import ItemInput

TASK_ITEMS = 32  # items that travel to a worker together
BATCHES_AHEAD = 3
WARMING = 10.0  # seconds that the first item of a process may take more: libraries are imported
_LOOKS = 1.0  # seconds between looks at a worker that does not answer

Part = Sequence["str | Path"]
_Answers = list["memoryview | ItemError"]  # pickled items of a part, or why an item failed


def decode_in_workers(
    batches: Sequence[Part], workers: Workers, begun: Decoded
) -> Generator[Decoded]:
    """Every batch in order, a few of them decoded ahead, by `workers`, which end.

    begun: the first items of the first batch, already decoded.
    """
    remaining = chain([batches[0][len(begun) :]], batches[1:])
    ahead: deque[list[Future[_Answers]]] = deque()
    with workers:
        while True:
            for batch in islice(remaining, BATCHES_AHEAD - len(ahead)):
                parts = range(0, len(batch), TASK_ITEMS)
                ahead.append([workers.submit(batch[i : i + TASK_ITEMS]) for i in parts])
            if not ahead:
                return
            yield begun + [one for task in ahead.popleft() for one in _read(task.result())]
            begun = []


def _read(answers: _Answers) -> Decoded:
    """Here and not in the thread that got them, whose worker decodes on meanwhile."""
    decoded: Decoded = []
    for one in answers:
        decoded += (
            [one] if isinstance(one, ItemError) else ForkingPickler.loads(one)
        )  # by our own worker
    return decoded


class Workers:
    """Processes that run `make_input`; they start when they are needed.

    limit: seconds that an item may take before its process is ended; 0 for none.
    Raises UserError if `make_input` cannot be sent to them.
    """

    def __init__(self, count: int, make_input: ItemInput, *, limit: float) -> None:
        _check_travels(make_input)
        self.make_input, self.limit = make_input, limit
        # Forked from a small server process: workers start fast and inherit no locks or threads.
        able = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in able else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            # Once, in the server: every worker would take seconds to import a large library.
            preload = ["__main__", *getattr(make_input, "imports", ())]
            self._context.set_forkserver_preload(preload)
            _start_server()
        self._threads = ThreadPoolExecutor(count)
        self._own = threading.local()  # the worker of each thread
        self._lock = threading.Lock()  # of what follows, and of starting and ending processes
        self._alive: set[_Worker] = set()
        self._closed = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> None:
        """Wait until the first can work. Raises UserError if it cannot start."""
        self._threads.submit(self._worker).result()

    def submit(self, items: Part) -> Future[_Answers]:
        """Decode a part of a batch. Its result raises UserError if a decoder does."""
        return self._threads.submit(self._decode, items)

    def close(self) -> None:
        """End all processes, whatever they are at."""
        with self._lock:
            self._closed = True
            for worker in self._alive:
                worker.process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for worker in self._alive:
                worker.end(now=True)

    def _decode(self, items: Part, *, again: bool = True) -> _Answers:
        """again: whether an item whose process was killed gets a second one."""
        if not items:
            return []
        worker = self._worker()
        answer = worker.ask(items, self.limit)
        if isinstance(answer, bytes):
            if answer[:1] == DECODED:
                return [memoryview(answer)[1:]]
            if answer[:1] == STOPPED:
                raise ForkingPickler.loads(answer[1:])
            code, reason = 0, "what it is decoded to needs more memory than there is"
        else:
            code = self._ended(worker, now=answer is not None)
            reason = f"the decoding process died on it ({_died(code)})"
        if isinstance(answer, int):
            reason = f"decoding it took longer than {self.limit:g} s (--item-timeout)"
            before, after = self._decode(items[:answer]), self._decode(items[answer + 1 :])
            return [*before, ItemError(reason), *after]
        if len(items) > 1:
            return [one for item in items for one in self._decode([item])]
        if again and code == -signal.SIGKILL:  # the system was short of memory, by others perhaps
            return self._decode(items, again=False)
        return [ItemError(reason)]

    def _ended(self, worker: _Worker, *, now: bool) -> int:
        """The exit code of a worker that is dying, or is to die now."""
        with self._lock:
            self._alive.discard(worker)
            self._own.worker = None
            return worker.end(now=now)

    def _worker(self) -> _Worker:
        """The process of this thread, started if there is none."""
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is not None:
            return worker
        with self._lock:  # multiprocessing looks after other threads' processes as it starts one
            if self._closed:
                raise UserError("decoding was stopped")
            worker = self._own.worker = _Worker(self._context, self.make_input)
            self._alive.add(worker)
        if worker.started():
            return worker
        self._ended(worker, now=False)
        raise UserError(
            "worker processes die as soon as they start: decode in this one with --workers 0 "
            "(workers=0); a Python script that extracts needs `if __name__ == '__main__':`"
        )


class _Worker:
    """A process, and what a thread knows of it."""

    def __init__(self, context: Any, make_input: ItemInput) -> None:
        self.connection, theirs = context.Pipe()
        self.place = context.RawValue("q", IDLE)
        self.process = context.Process(
            target=work, args=(theirs, make_input, self.place), daemon=True
        )
        self.process.start()
        theirs.close()
        self.spare = WARMING

    def started(self) -> bool:
        """Wait until it can work; False if it died."""
        try:
            self.connection.recv_bytes()
        except (EOFError, OSError):
            return False
        return True

    def ask(self, items: Part, limit: float) -> bytes | int | None:
        """Its answer; or None if it died, or which item it has been at for more than `limit`."""
        try:
            self.connection.send(items)
            late = self._late(limit) if limit else None
            if late is not None:
                return late
            answer = bytes(self.connection.recv_bytes())
        except (EOFError, OSError):
            return None
        self.spare = 0.0
        return answer

    def _late(self, limit: float) -> int | None:
        """Wait for an answer; the item that it is late with, if any."""
        look = min(_LOOKS, limit / 4)
        at, seconds, looked = IDLE, 0.0, time.monotonic()
        while not self.connection.poll(look):
            now, place = time.monotonic(), int(self.place.value)
            # Counted in looks: while everything was stopped (Ctrl-Z), it was not slow.
            seconds = seconds + min(now - looked, 2 * look) if place == at else 0.0
            looked, at = now, place
            if at != IDLE and seconds > limit + (self.spare if at == 0 else 0.0):
                return at
        return None

    def end(self, *, now: bool) -> int:
        """Make sure that it is no more, `now` or soon as it is dying; its exit code."""
        self.process.join(timeout=0 if now else 1)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.connection.close()
        return int(self.process.exitcode)


def _died(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    what = "out of memory?" if code == -signal.SIGKILL else signal.strsignal(-code)
    return f"signal {-code}, {what}"


def _check_travels(make_input: ItemInput) -> None:
    try:
        ForkingPickler.dumps(make_input)
    except Exception as error:  # a closure, a lock, a model: each has an exception of its own
        raise UserError(
            f"what the encoder's input() returns cannot be pickled ({error}), so it cannot go to "
            "worker processes: return a function of a module, or decode in this process with "
            "--workers 0 (workers=0)"
        ) from error


def _start_server() -> None:
    """Start what workers are forked from, with Ctrl-C blocked: it and they leave it to the parent.

    From a terminal it comes to all of them, and would end those that still import with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
