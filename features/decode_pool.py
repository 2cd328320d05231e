"""Running an encoder's input function over many items in worker processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
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


def decode_batches(
    make_input: ItemInput, batches: Iterable[Sequence[str | Path]], *, workers: int
) -> Generator[list[NDArray[Any] | ItemError]]:
    """Every batch of items as network inputs, in order; bad items as ItemError.

    workers: processes that decode; 0 decodes in this one. A few batches are decoded ahead.
    An item whose decoder kills its worker is a bad item too. Raises UserError if workers
    cannot be started, `make_input` cannot be sent to them, or a decoder raises it.
    """
    if workers == 0:
        yield from (_decode(make_input, batch) for batch in batches)
        return
    _check_travels(make_input)
    remaining = iter(batches)
    ahead: deque[tuple[Sequence[str | Path], _Tasks | None]] = deque()
    pool = _new_pool(workers)
    try:
        while True:
            for batch in islice(remaining, BATCHES_AHEAD - len(ahead)):
                ahead.append((batch, _submit(pool, make_input, batch)))
            if not ahead:
                return
            batch, tasks = ahead.popleft()
            decoded = _results(tasks)
            if decoded is None:  # a worker died, and with it everything that was under way
                pool.shutdown(wait=True, cancel_futures=True)
                decoded = _decode_alone(make_input, batch)
                pool = _new_pool(workers)
                ahead = deque((one, _submit(pool, make_input, one)) for one, _ in ahead)
            yield decoded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode_alone(
    make_input: ItemInput, batch: Sequence[str | Path]
) -> list[NDArray[Any] | ItemError]:
    """One item at a time, to find the one that kills its worker."""
    decoded: list[NDArray[Any] | ItemError] = []
    pool: ProcessPoolExecutor | None = None
    try:
        for item in batch:
            if pool is None:
                pool = _new_pool(1)
                _check_start(pool)
            try:
                decoded.append(pool.submit(_decode_one, make_input, item).result())
            except BrokenProcessPool:
                decoded.append(ItemError("decoding it killed the worker process"))
                pool.shutdown()
                pool = None
    finally:
        if pool is not None:
            pool.shutdown()
    return decoded


def _check_travels(make_input: ItemInput) -> None:
    try:
        ForkingPickler.dumps(make_input)
    except Exception as error:  # a closure, a lock, a model: each has an exception of its own
        raise UserError(
            f"what the encoder's input() returns cannot be pickled ({error}), so it cannot go to "
            "worker processes: return a function of a module, or decode in this process with "
            "--workers 0 (workers=0)"
        ) from error


def _check_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise UserError(
            "worker processes die as soon as they start: decode in this one with --workers 0 "
            "(workers=0); a Python script that extracts needs `if __name__ == '__main__':`"
        ) from error


_Tasks = list["Future[list[NDArray[Any] | ItemError]]"]


def _submit(
    pool: ProcessPoolExecutor, make_input: ItemInput, batch: Sequence[str | Path]
) -> _Tasks | None:
    parts = [batch[start : start + TASK_ITEMS] for start in range(0, len(batch), TASK_ITEMS)]
    try:
        return [pool.submit(_decode, make_input, part) for part in parts]
    except BrokenProcessPool:
        return None


def _results(tasks: _Tasks | None) -> list[NDArray[Any] | ItemError] | None:
    """The tasks' arrays in order, or None if a worker died."""
    if tasks is None:
        return None
    try:
        return [one for task in tasks for one in task.result()]
    except BrokenProcessPool:
        return None


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # Forked from a small server process: workers start fast and inherit no locks or threads.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _decode(make_input: ItemInput, items: Sequence[str | Path]) -> list[NDArray[Any] | ItemError]:
    return [_decode_one(make_input, item) for item in items]


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


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
