"""Work on all cores: every part once, errors and stops told, torch's threads as they were."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from features.cores import in_parts, on_every_core


@pytest.fixture(autouse=True)
def three_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("length", "step"), [(0, 1), (1, 1), (2, 1), (10, 4), (64, 64), (130, 64)])
def test_parts_are_all_of_the_range_once(length, step):
    seen: list[tuple[int, int]] = []
    in_parts(lambda start, stop: seen.append((start, stop)), length, step=step)
    rows = [row for start, stop in sorted(seen) for row in range(start, stop)]
    assert rows == list(range(length))
    assert all(start % step == 0 for start, _ in seen)


def test_results_come_in_the_order_of_the_items_and_threads_are_as_before():
    found = on_every_core(lambda item, _: (item * item, torch.get_num_threads()), range(20))
    assert found == [(item * item, 1) for item in range(20)]
    assert torch.get_num_threads() == 3


def test_an_error_stops_what_runs_and_leaves_out_the_rest():
    begun, ended = [], threading.Event()

    def task(item, go_on):
        begun.append(item)
        if item == 1:
            raise ValueError("one")
        for _ in range(1000):
            time.sleep(0.01)
            try:
                go_on()
            except BaseException:
                ended.set()
                raise

    started = time.monotonic()
    with pytest.raises(ValueError, match="one"):
        on_every_core(lambda item, go_on: task(item + 1, go_on), range(50))
    assert time.monotonic() - started < 5
    assert ended.is_set()
    assert len(begun) < 10
    assert torch.get_num_threads() == 3
