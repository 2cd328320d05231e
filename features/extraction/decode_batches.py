"""Running an encoder's input function over many items, in order: here, or in worker processes.

Starting workers takes seconds, and decoding may be nothing beside embedding; so decoding begins
in this process, and workers are started when what is left is known to be worth it. The encoder
keeps all its threads: workers are polite, and results do not depend on when they came.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from features.device import cpu_count
from features.extraction.decode_pool import (
    TASK_ITEMS,
    Decoded,
    decode,
    decode_in_workers,
    new_pool,
    started_pool,
)

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    from features.encoders import ItemInput

WORTH_STARTING = 2.0  # seconds of decoding left
MOST_WORKERS = 16


def decode_batches(
    make_input: ItemInput, batches: Sequence[Sequence[str | Path]], *, workers: int | None = None
) -> Generator[Decoded]:
    """Every batch of items as network inputs, in order; bad items as ItemError.

    workers: processes that decode; 0 decodes in this one. None begins in this one, and goes on
    in as many as there are cores if what is left is worth their start.
    In workers, an item whose decoder kills its process is a bad item, too. Raises UserError if
    workers cannot be started, `make_input` cannot be sent to them, or a decoder raises it.
    """
    if workers is None:
        yield from _decode_here_first(make_input, batches, min(MOST_WORKERS, cpu_count()))
    elif workers and batches:
        pool = new_pool(workers, make_input)
        yield from decode_in_workers(make_input, batches, pool, workers, [])
    else:
        yield from (decode(make_input, batch) for batch in batches)


def _decode_here_first(
    make_input: ItemInput, batches: Sequence[Sequence[str | Path]], workers: int
) -> Generator[Decoded]:
    left = sum(map(len, batches))
    clock = _Clock(make_input)
    starting: Future[ProcessPoolExecutor] | None = None
    with ThreadPoolExecutor(1) as starter:
        try:
            for number, batch in enumerate(batches):
                decoded: Decoded = []
                while len(decoded) < len(batch):
                    if starting is not None and starting.done():
                        pool, starting = starting.result(), None
                        rest = batches[number:]
                        yield from decode_in_workers(make_input, rest, pool, workers, decoded)
                        return
                    part = batch[len(decoded) :][:TASK_ITEMS]
                    decoded += clock.decode(part)
                    left -= len(part)
                    worth_it = clock.item_seconds * left > WORTH_STARTING
                    if starting is None and worth_it and workers > 1:
                        starting = starter.submit(started_pool, workers, make_input)
                yield decoded
        finally:
            if starting is not None and starting.exception() is None:
                starting.result().shutdown(cancel_futures=True)


class _Clock:
    """Decodes in this process, and knows how long it takes.

    item_seconds: of an item, on average; without the first, which imports what it needs.
    """

    def __init__(self, make_input: ItemInput) -> None:
        self.make_input = make_input
        self.item_seconds = 0.0
        self._items, self._seconds = -1, 0.0

    def decode(self, items: Sequence[str | Path]) -> Decoded:
        first = decode(self.make_input, items[:1]) if self._items < 0 else []
        started = time.perf_counter()
        decoded = first + decode(self.make_input, items[len(first) :])
        self._seconds += time.perf_counter() - started
        self._items += len(items)
        self.item_seconds = self._seconds / max(1, self._items)
        return decoded
