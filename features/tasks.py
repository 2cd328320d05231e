"""Independent tasks whose results come in order: on the cores of a machine, or on a cluster.

Every task computes on one core, wherever it runs, so that its bits do not depend on where that is,
as far as the processors are of one kind.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Protocol, TypeVar

from features.errors import UserError
from features.suggest import unknown

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Made = TypeVar("Made")

ENGINES = ("local", "ray")
_AHEAD = 2  # tasks that are under way for each worker: the next is there when one is done
_SCRIPT = "a Python script that does this needs `if __name__ == '__main__':`"


class Tasks(Protocol):
    """Runs tasks. engine: `local` on this machine, or the name of what runs them elsewhere."""

    engine: str

    def map(
        self, task: Callable[[Shared, Item], Made], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Made]:
        """`task(shared, item)` for every item, in their order, a few of them ahead.

        task: a function of a module, or an object that can be pickled. What travels is arrays, not
        tensors. Raises what a task raises.
        """


def open_tasks(
    engine: str = "local",
    *,
    processes: int | None = None,
    address: str | None = None,
    used: bool = True,
) -> AbstractContextManager[Tasks | None]:
    """What the options of a command ask for, to be closed at its end; None if for nothing.

    processes: of this machine. address: of a Ray cluster; without it, that of RAY_ADDRESS is taken,
    or one of this machine's cores is started. used: False where another process maps for this one,
    which then starts nothing. Raises UserError for an engine that there is not, or options that
    belong to another.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if engine == "ray":
        if processes is not None:
            raise UserError(
                f"--shard-processes {processes} starts processes here, and --engine ray says that "
                "Ray does: give one of them"
            )
        from features.ray_tasks import RayTasks

        ray = RayTasks(address)
        return ray if used else nullcontext(ray)
    if address is not None:
        raise UserError(f"--ray-address {address} is for --engine ray: give both, or neither")
    return nullcontext() if processes is None else Processes(processes)


class InTurn:
    """Tasks in this process, one after the other, each on all cores: where bits do not matter."""

    engine = "local"

    def map(
        self, task: Callable[[Shared, Item], Made], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Made]:
        """As `Tasks` has it."""
        return (task(shared, item) for item in items)


class Threads:
    """Tasks in this process, one on each core that torch may take."""

    engine = "local"

    def map(
        self, task: Callable[[Shared, Item], Made], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Made]:
        """As `Tasks` has it."""
        import torch

        cores = torch.get_num_threads()
        pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield from _in_order(lambda item: pool.submit(task, shared, item), items, cores)
        finally:
            try:
                pool.shutdown(cancel_futures=True)
            finally:
                torch.set_num_threads(cores)  # some of torch's libraries count for all threads


class Processes:
    """Tasks in so many processes of this machine, which end with the block."""

    engine = "local"

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:  # what is under way would be waited for
            for process in [*(self._pool._processes or {}).values()]:
                process.terminate()
        self._pool.shutdown(cancel_futures=True)
        self._pool = None

    def map(
        self, task: Callable[[Shared, Item], Made], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Made]:
        """As `Tasks` has it."""
        if self._pool is None:
            # Not forked: torch's threads would be locked in a copy of this process.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, context, initializer=_begin_worker)
        pool = self._pool
        try:
            yield from _in_order(lambda item: pool.submit(task, shared, item), items, self.count)
        except BrokenProcessPool as error:
            self._pool = None
            raise UserError(
                f"one of {self.count} worker processes died, which mostly is for want of memory: "
                f"run the same command with fewer (--shard-processes); {_SCRIPT}"
            ) from error


def _begin_worker() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process says when to stop
    torch.set_num_threads(1)


def _in_order(
    submit: Callable[[Item], Future[Made]], items: Iterable[Item], workers: int
) -> Generator[Made]:
    """Results in the order of the items; those that have not begun are left out at an error."""
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(submit(item))
            if len(waiting) >= _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
