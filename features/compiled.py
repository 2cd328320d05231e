"""Work on all cores of a CPU: tasks, and loops that torch has no operation for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar, cast

import numba
import torch

Function = TypeVar("Function", bound=Callable[..., Any])
Item = TypeVar("Item")
Made = TypeVar("Made")
# Sums may be taken in another order; infinities and NaN keep their meaning. Division by zero gives
# one of them, as in NumPy.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
}


def compiled(function: Function) -> Function:
    """The function in machine code, made when it is first called and kept for other processes.

    It holds no lock while it runs.
    """
    try:
        made = numba.njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:  # no folder can be written to
        made = numba.njit(**_OPTIONS)(function)
    return cast(Function, made)


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

    Cores that share no task need not wait for each other after every operation.
    """
    cores = torch.get_num_threads()
    if cores == 1:
        return [task(item) for item in items]
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(task, items))
    finally:
        torch.set_num_threads(cores)  # some of torch's libraries count for all threads
