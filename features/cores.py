"""Work on all cores of a CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
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


def on_every_core(
    task: Callable[[Item, Callable[[], None]], Made], items: Iterable[Item]
) -> list[Made]:
    """`[task(item, go_on) for item in items]`, a task a core, in which torch takes no other core.

    Cores that share no task need not wait for each other after every operation. Where one task
    fails, or Ctrl-C is pressed, those that have not begun are left out, and those that run end
    where they call `go_on()`. A thread that uses torch for the first time meanwhile keeps to one
    core.
    """
    cores = torch.get_num_threads()
    if cores == 1:
        return [task(item, lambda: None) for item in items]
    stopped = threading.Event()
    inference, gradient = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def go_on() -> None:
        if stopped.is_set():
            raise CancelledError

    def run(item: Item) -> Made:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradient):
            return task(item, go_on)

    pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return [found.result() for found in [pool.submit(run, item) for item in items]]
    finally:
        stopped.set()
        try:
            pool.shutdown(cancel_futures=True)
        finally:
            torch.set_num_threads(cores)  # some of torch's libraries count for all threads
