"""Reading while the last block is still being written."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
_DEPTH = 2  # blocks read ahead
_PATIENCE = 0.1  # seconds until the reader looks whether it is still wanted


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items, made in a thread that is up to two of them ahead.

    What `items` raises is raised here. Close the iterator (`contextlib.closing`) to end the
    thread before the last item.
    """
    queue: Queue[tuple[Item] | BaseException | None] = Queue(_DEPTH)
    stopped = Event()
    thread = Thread(target=_fill, args=(queue, items, stopped), daemon=True)
    thread.start()
    try:
        while (answer := queue.get()) is not None:
            if isinstance(answer, BaseException):
                raise answer
            yield answer[0]
    finally:
        stopped.set()
        thread.join()


def _fill(
    queue: Queue[tuple[Item] | BaseException | None], items: Iterator[Item], stopped: Event
) -> None:
    try:
        for item in items:
            if not _put(queue, (item,), stopped):
                return
        _put(queue, None, stopped)
    except BaseException as error:  # also KeyboardInterrupt: the reader of the queue waits
        _put(queue, error, stopped)


def _put(
    queue: Queue[tuple[Item] | BaseException | None],
    answer: tuple[Item] | BaseException | None,
    stopped: Event,
) -> bool:
    while not stopped.is_set():
        try:
            queue.put(answer, timeout=_PATIENCE)
        except Full:
            continue
        return True
    return False
