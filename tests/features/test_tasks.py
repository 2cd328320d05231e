"""Tasks give their results in order wherever they run, and say what went wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from features.errors import UserError
from features.tasks import InTurn, Processes, Tasks, Threads, open_tasks


def slower_first(shared: np.ndarray, item: int) -> tuple[float, int]:
    time.sleep(0.02 * (5 - item))
    return float(shared.sum()) + item, torch.get_num_threads()


def fails(_: object, item: int) -> int:
    if item == 2:
        raise UserError("item 2 is bad: leave it out", details="of three")
    return item


def dies(_: object, item: int) -> int:
    os._exit(item)


@pytest.fixture(scope="module", params=["turn", "threads", "processes", "ray"])
def tasks(request) -> Iterator[Tasks]:
    if request.param == "ray":
        pytest.importorskip("ray")
        with open_tasks("ray") as made:
            yield made
    elif request.param == "processes":
        with Processes(2) as made:
            yield made
    else:
        yield InTurn() if request.param == "turn" else Threads()


def test_results_come_in_the_order_of_the_items(tasks):
    threads = torch.get_num_threads()
    found = list(tasks.map(slower_first, np.ones(3), range(5)))
    assert [value for value, _ in found] == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert {cores for _, cores in found} == {threads if isinstance(tasks, InTurn) else 1}
    assert torch.get_num_threads() == threads
    assert list(tasks.map(slower_first, np.ones(3), [])) == []


def test_what_a_task_says_is_said(tasks):
    with pytest.raises(UserError, match="item 2 is bad: leave it out") as caught:
        list(tasks.map(fails, None, range(4)))
    assert isinstance(tasks, InTurn | Threads) or "item 2" in str(caught.value)
    assert list(tasks.map(fails, None, [0, 1])) == [0, 1]  # and others still run


def test_a_process_that_dies_is_told_of():
    with Processes(1) as tasks:
        with pytest.raises(UserError, match="one of 1 worker processes died"):
            list(tasks.map(dies, None, [1]))
        assert list(tasks.map(fails, None, [0, 1])) == [0, 1]


def test_processes_end_with_the_block_also_when_it_fails():
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), Processes(1) as tasks:
        stopped(next(iter(tasks.map(sleeps, None, [0, 90, 90]))))
    assert time.perf_counter() - started < 80


def stopped(_: int) -> None:
    raise KeyboardInterrupt


def sleeps(_: object, item: int) -> int:
    time.sleep(item)
    return item


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "rae"}, "there is no engine 'rae' .did you mean ray.*: choose local or ray"),
        ({"engine": "ray", "processes": 2}, "--shard-processes 2 starts processes here"),
        ({"address": "10.0.0.1:6379"}, "--ray-address 10.0.0.1:6379 is for --engine ray"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        open_tasks(**options)


def test_without_options_there_are_no_tasks():
    with open_tasks() as tasks:
        assert tasks is None
