"""Work on all cores of a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_parts(work: Callable[[int, int], object], length: int, *, step: int = 1) -> None:
    """Call `work(start, stop)` for parts of `range(length)`, one on each core.

    step: parts begin at its multiples. What `work` computes must not depend on the parts.
    """
    pieces = -(-length // step)
    parts = min(torch.get_num_threads(), pieces)
    if parts < 2:
        work(0, length)
        return
    edges = [step * (pieces * part // parts) for part in range(parts)] + [length]
    with ThreadPoolExecutor(parts - 1) as pool:
        others = [pool.submit(work, *part) for part in pairwise(edges[1:])]
        work(edges[0], edges[1])
        for other in others:
            other.result()


def on_every_core(task: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """`[task(item) for item in items]`, a task a core, in which torch takes no other core.

    Cores that share no task need not wait for each other after every operation. Where one task
    fails, or Ctrl-C is pressed, those that have not begun are left out.
    """
    cores = torch.get_num_threads()
    if cores == 1:
        return [task(item) for item in items]
    pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return [found.result() for found in [pool.submit(task, item) for item in items]]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # some of torch's libraries count for all threads
