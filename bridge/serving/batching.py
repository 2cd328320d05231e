"""Requests that come at the same time are worked on together, in one thread.

Nothing waits for a batch to fill: while one is worked on, the next one gathers. So a lone request
is answered at once, and many share the passes over the encoder and the index.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from bridge.serving.refusal import BUSY, Refusal

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Sequence[Job]], Sequence["Result | Exception"]]


def _ending() -> Refusal:
    return Refusal(BUSY, "the server is ending: try again in a second")


class Batcher(Generic[Job, Result]):
    """A thread that takes what has gathered in a bounded queue."""

    def __init__(
        self,
        work: Work[Job, Result],
        *,
        waiting: int,
        most: int,
        name: str,
        begin: Callable[[], object] = lambda: None,
    ) -> None:
        """work: gives a result or an error for every job of a batch.

        waiting: jobs that the queue holds. most: of a batch. begin: called in the thread first.
        """
        self._begin = begin
        self._work, self._most = work, most
        self._closed = False
        self._queue: queue.Queue[tuple[Job, Future[Result]] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return self._queue.qsize()

    def submit(self, job: Job) -> Future[Result]:
        """The result to come. Raises Refusal if the queue is full, or the thread is to end."""
        future: Future[Result] = Future()
        if self._closed:
            raise _ending()
        try:
            self._queue.put_nowait((job, future))
        except queue.Full:
            raise Refusal(
                BUSY, f"{self._queue.maxsize} requests are waiting already: try again in a second"
            ) from None
        return future

    def close(self) -> None:
        """End the thread after the batch that it works on; who still waits is told."""
        self._closed = True
        while True:
            try:
                self._queue.put_nowait(None)
                break
            except queue.Full:
                self._refuse_one()
        self._thread.join(timeout=5)

    def _refuse_one(self) -> None:
        with suppress(queue.Empty):
            entry = self._queue.get_nowait()
            if entry is not None and entry[1].set_running_or_notify_cancel():
                entry[1].set_exception(_ending())

    def _run(self) -> None:
        self._begin()
        while True:
            entry = self._queue.get()
            batch = [entry]
            while entry is not None and len(batch) < self._most:
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
                batch.append(entry)
            # Those whose client has given up are not worked on.
            jobs = [one for one in batch if one and one[1].set_running_or_notify_cancel()]
            if jobs:
                self._answer([job for job, _ in jobs], [future for _, future in jobs])
            if batch[-1] is None:
                return

    def _answer(self, jobs: Sequence[Job], futures: Sequence[Future[Result]]) -> None:
        try:
            results = self._work(jobs)
        except Exception as error:  # told to everyone who waits
            results = [error] * len(jobs)
        for future, result in zip(futures, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
