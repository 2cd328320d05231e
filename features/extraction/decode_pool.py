"""Worker processes that run an encoder's input function over batches of items, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import ItemError, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.encoders import ItemInput

TASK_ITEMS = 32  # items that travel to a worker together
BATCHES_AHEAD = 3
POLITENESS = 10  # niceness of workers: an encoder that wants the cores gets them first

Decoded = list["NDArray[Any] | ItemError"]


def decode(make_input: ItemInput, items: Sequence[str | Path]) -> Decoded:
    """Items as network inputs, in this process; bad items as ItemError."""
    return [_decode_one(make_input, item) for item in items]


def decode_in_workers(
    make_input: ItemInput,
    batches: Sequence[Sequence[str | Path]],
    pool: ProcessPoolExecutor,
    workers: int,
    begun: Decoded,
) -> Generator[Decoded]:
    """Every batch in order, a few of them decoded ahead, by the workers of `pool`, which ends.

    begun: the first items of the first batch, already decoded.
    """
    remaining = iter([batches[0][len(begun) :], *batches[1:]])
    ahead: deque[tuple[Sequence[str | Path], _Tasks | None]] = deque()
    try:
        while True:
            for batch in islice(remaining, BATCHES_AHEAD - len(ahead)):
                ahead.append((batch, _submit(pool, batch)))
            if not ahead:
                return
            batch, tasks = ahead.popleft()
            decoded = _results(tasks)
            if decoded is None:  # a worker died, and with it everything that was under way
                pool.shutdown(wait=True, cancel_futures=True)
                decoded = _decode_alone(make_input, batch)
                pool = new_pool(workers, make_input)
                ahead = deque((one, _submit(pool, one)) for one, _ in ahead)
            yield begun + decoded
            begun = []
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode_alone(make_input: ItemInput, batch: Sequence[str | Path]) -> Decoded:
    """One item at a time, to find the one that kills its worker."""
    decoded: Decoded = []
    pool: ProcessPoolExecutor | None = None
    try:
        for item in batch:
            if pool is None:
                pool = started_pool(1, make_input)
            try:
                decoded.append(pool.submit(_decode_part, [item]).result()[0])
            except BrokenProcessPool:
                decoded.append(ItemError("decoding it killed the worker process"))
                pool.shutdown()
                pool = None
    finally:
        if pool is not None:
            pool.shutdown()
    return decoded


def new_pool(workers: int, make_input: ItemInput) -> ProcessPoolExecutor:
    """Processes that can run `make_input`; they start when they are needed.

    Raises UserError if it cannot be sent to them.
    """
    _check_travels(make_input)
    # Forked from a small server process: workers start fast and inherit no locks or threads.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        # Once, in the server: every worker would take seconds to import a large library.
        context.set_forkserver_preload(["__main__", *getattr(make_input, "imports", ())])
        _start_server()
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(make_input,)
    )


def _start_server() -> None:
    """Start what workers are forked from, with Ctrl-C blocked: it and they leave it to the parent.

    From a terminal it comes to all of them, and would end those that still import with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def started_pool(workers: int, make_input: ItemInput) -> ProcessPoolExecutor:
    """The same, when the first of them is ready. Raises UserError if it cannot start, too."""
    pool = new_pool(workers, make_input)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise UserError(
            "worker processes die as soon as they start: decode in this one with --workers 0 "
            "(workers=0); a Python script that extracts needs `if __name__ == '__main__':`"
        ) from error
    return pool


def _check_travels(make_input: ItemInput) -> None:
    try:
        ForkingPickler.dumps(make_input)
    except Exception as error:  # a closure, a lock, a model: each has an exception of its own
        raise UserError(
            f"what the encoder's input() returns cannot be pickled ({error}), so it cannot go to "
            "worker processes: return a function of a module, or decode in this process with "
            "--workers 0 (workers=0)"
        ) from error


_Tasks = list["Future[list[NDArray[Any] | ItemError]]"]


def _submit(pool: ProcessPoolExecutor, batch: Sequence[str | Path]) -> _Tasks | None:
    parts = [batch[start : start + TASK_ITEMS] for start in range(0, len(batch), TASK_ITEMS)]
    try:
        return [pool.submit(_decode_part, part) for part in parts]
    except BrokenProcessPool:
        return None


def _results(tasks: _Tasks | None) -> Decoded | None:
    """The tasks' arrays in order, or None if a worker died."""
    if tasks is None:
        return None
    try:
        return [one for task in tasks for one in task.result()]
    except BrokenProcessPool:
        return None


def _decode_one(make_input: ItemInput, item: str | Path) -> NDArray[Any] | ItemError:
    try:
        return make_input(item)
    except ItemError as error:
        return error
    except UserError:
        raise  # a missing package, say: every item of the kind would fail
    except Exception as error:
        # The boundary to decoders of any library: one bad file among millions must not end
        # the extraction, and its reason is kept.
        return ItemError(f"{type(error).__name__}: {' '.join(str(error).split())}")


class _Worker:
    """What a worker process was started for: sent once, as it may hold a whole vocabulary."""

    make_input: ItemInput


def _decode_part(items: Sequence[str | Path]) -> Decoded:
    return decode(_Worker.make_input, items)


def _start_worker(make_input: ItemInput) -> None:
    """Yield to the parent, leave Ctrl-C to it, and end with it even if it is killed."""
    if hasattr(os, "nice"):
        os.nice(POLITENESS)
    _Worker.make_input = make_input
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
