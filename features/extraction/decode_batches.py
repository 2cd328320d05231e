"""Running an encoder's input function over many items, in order: here, or in worker processes.

Starting workers takes seconds, and decoding may be nothing beside embedding; so decoding begins
in this process, and workers are started when what is left is known to be worth it. The encoder
keeps all its threads: workers are polite, and results do not depend on when they came. Files whose
decoding may hang or kill a process are decoded in workers, which can be ended: a file that hangs
here is given up soon and decoded again there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from features.device import cpu_count
from features.errors import UserError
from features.extraction.decode_here import decode_here
from features.extraction.decode_pool import TASK_ITEMS, Workers, decode_in_workers
from features.extraction.decode_worker import Decoded, decode

if TYPE_CHECKING:
    from features.encoders import ItemInput
    from features.extraction.decode_pool import Part

ITEM_SECONDS = 300.0  # that an item may take where nothing else is said
PATIENCE = 20.0  # seconds that an item may take here, before it is decoded again in a worker
WORTH_STARTING = 2.0  # seconds of decoding left
MOST_WORKERS = 16


def decode_batches(
    make_input: ItemInput,
    batches: Sequence[Part],
    *,
    workers: int | None = None,
    item_timeout: float | None = None,
    begun: bool = False,
) -> Generator[Decoded]:
    """Every batch of items as network inputs, in order; bad items as ItemError.

    workers: processes that decode; 0 decodes in this one. None begins in this one, and goes on
    in as many as there are cores if what is left is worth their start, or a file hangs.
    item_timeout: seconds after which an item is a bad item; 0 for none. Unset, ITEM_SECONDS in
    workers. begun: a process that decoded these items ended before it was done, perhaps as one of
    them killed it: files are not decoded in this one unless `workers` is 0.
    In workers, an item whose decoder kills its process is a bad item, too. Raises UserError if
    workers cannot be started, `make_input` cannot be sent to them, a decoder raises it, or there
    is a limit that nothing could keep.
    """
    if workers == 0 and item_timeout:
        raise UserError(
            f"an item can be stopped after {item_timeout:g} s only in a worker process: give "
            "--workers 1 or more (workers=1), or no --item-timeout"
        )
    if workers == 0 or not batches:
        yield from (decode(make_input, batch) for batch in batches)
        return
    limit = ITEM_SECONDS if item_timeout is None else item_timeout
    if workers is None:
        count = min(MOST_WORKERS, cpu_count())
        started = _started_for(make_input, batches, count, limit) if begun else None
        if started is None:
            yield from _decode_here_first(make_input, batches, count, limit)
            return
    else:
        started = Workers(workers, make_input, limit=limit)
    yield from decode_in_workers(batches, started, [])


def _started_for(
    make_input: ItemInput, batches: Sequence[Part], count: int, limit: float
) -> Workers | None:
    """Workers for files, if they can be started."""
    if not any(isinstance(item, Path) for item in batches[0]):
        return None
    try:
        return _started(make_input, count, limit)
    except UserError:  # nobody asked for them
        return None


def _started(make_input: ItemInput, count: int, limit: float) -> Workers:
    workers = Workers(count, make_input, limit=limit)
    try:
        workers.ready()
    except BaseException:
        workers.close()
        raise
    return workers


def _decode_here_first(
    make_input: ItemInput, batches: Sequence[Part], count: int, limit: float
) -> Generator[Decoded]:
    left = len(batches[0]) * (len(batches) - 1) + len(batches[-1])
    clock = _Clock(make_input, min(limit or math.inf, PATIENCE))
    starting: Future[Workers] | None = None
    with ThreadPoolExecutor(1) as starter:
        try:
            for number, batch in enumerate(batches):
                decoded: Decoded = []
                while len(decoded) < len(batch):
                    if starting is not None and (clock.gave_up or starting.done()):
                        workers, starting = starting.result(), None
                        yield from decode_in_workers(batches[number:], workers, decoded)
                        return
                    done = clock.decode(batch[len(decoded) :][:TASK_ITEMS])
                    decoded += done
                    left -= len(done)
                    worth_it = clock.item_seconds * left > WORTH_STARTING and count > 1
                    if starting is None and (worth_it or clock.gave_up):
                        starting = starter.submit(_started, make_input, count, limit)
                yield decoded
        finally:
            if starting is not None and starting.exception() is None:
                starting.result().close()


class _Clock:
    """Decodes in this process, and knows how long it takes.

    item_seconds: of an item, on average; without the first, which imports what it needs.
    gave_up: whether an item took longer than `patience` seconds, and nothing is decoded any more.
    """

    def __init__(self, make_input: ItemInput, patience: float) -> None:
        self.make_input, self.patience = make_input, patience
        self.item_seconds = 0.0
        self.gave_up = False
        self._items, self._seconds = -1, 0.0

    def decode(self, items: Part) -> Decoded:
        """The items, or those before the one that takes too long."""
        first = self._decode(items[:1]) if self._items < 0 else []
        started = time.perf_counter()
        decoded = first + ([] if self.gave_up else self._decode(items[len(first) :]))
        self._seconds += time.perf_counter() - started
        self._items += len(decoded)
        self.item_seconds = self._seconds / max(1, self._items)
        return decoded

    def _decode(self, items: Part) -> Decoded:
        decoded = decode_here(self.make_input, items, self.patience)
        self.gave_up = len(decoded) < len(items)
        return decoded
