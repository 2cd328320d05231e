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
from contextlib import closing
from multiprocessing.connection import wait
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
    Raises UserError if a worker dies.
    """
    if workers == 0:
        yield from (_decode(make_input, batch) for batch in batches)
        return
    # Forked from a small server process: workers start fast and inherit no locks or threads.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context(method), initializer=_start_worker
    )
    with closing(_decode_in(pool, make_input, batches)) as decoded:
        try:
            yield from decoded
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process died while decoding, perhaps for lack of memory: run the same "
                "command again to continue, with fewer --workers if it happens again"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _decode_in(
    pool: ProcessPoolExecutor, make_input: ItemInput, batches: Iterable[Sequence[str | Path]]
) -> Generator[list[NDArray[Any] | ItemError]]:
    ahead: deque[list[Future[list[NDArray[Any] | ItemError]]]] = deque()
    for batch in batches:
        tasks = [batch[start : start + TASK_ITEMS] for start in range(0, len(batch), TASK_ITEMS)]
        ahead.append([pool.submit(_decode, make_input, task) for task in tasks])
        if len(ahead) > BATCHES_AHEAD:
            yield [one for task in ahead.popleft() for one in task.result()]
    while ahead:
        yield [one for task in ahead.popleft() for one in task.result()]


def _decode(make_input: ItemInput, items: Sequence[str | Path]) -> list[NDArray[Any] | ItemError]:
    return [_decode_one(make_input, item) for item in items]


def _decode_one(make_input: ItemInput, item: str | Path) -> NDArray[Any] | ItemError:
    try:
        return make_input(item)
    except ItemError as error:
        return error
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
