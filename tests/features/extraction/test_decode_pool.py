"""Decoding in worker processes: in order, and one file that kills its worker is a bad item."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from features.errors import ItemError, UserError
from features.extraction.decode_batches import decode_batches

BATCHES = [[f"{i}" for i in range(start, start + 40)] for start in (0, 40, 80, 120, 160)]


def number(item: str | Path) -> np.ndarray:
    return np.array([int(str(item))])


def number_or_crash(item: str | Path) -> np.ndarray:
    if str(item) in ("47", "130"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return number(item)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers: int) -> None:
    decoded = list(decode_batches(number, BATCHES, workers=workers))
    assert [[int(one[0]) for one in batch] for batch in decoded] == [
        [int(item) for item in batch] for batch in BATCHES
    ]


def test_items_that_kill_their_worker_are_bad_items_and_the_rest_is_decoded() -> None:
    decoded = list(decode_batches(number_or_crash, BATCHES, workers=2))
    flat = [one for batch in decoded for one in batch]
    bad = {i: str(one) for i, one in enumerate(flat) if isinstance(one, ItemError)}
    assert bad == dict.fromkeys((47, 130), "decoding it killed the worker process")
    assert [int(one[0]) for one in flat if not isinstance(one, ItemError)] == [
        i for i in range(200) if i not in bad
    ]


def test_workers_that_cannot_start_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.extraction.decode_pool._start_worker", os._exit)
    with pytest.raises(UserError, match=r"die as soon as they start.*--workers 0"):
        list(decode_batches(number, BATCHES[:1], workers=1))


def number_and_process(item: str | Path) -> np.ndarray:
    time.sleep(0.01)
    return np.array([int(str(item)), os.getpid()])


def test_decoding_begins_here_and_goes_on_in_workers_when_they_are_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("features.extraction.decode_batches.WORTH_STARTING", 0.1)
    monkeypatch.setattr("features.extraction.decode_batches.cpu_count", lambda: 2)
    flat = [one for batch in decode_batches(number_and_process, BATCHES) for one in batch]
    assert [int(one[0]) for one in flat] == list(range(200))
    assert int(flat[0][1]) == os.getpid() != int(flat[-1][1])


@pytest.mark.parametrize(("cores", "worth"), [(1, 0.0), (2, 60.0)])
def test_it_stays_here_if_workers_are_not_worth_their_start(
    monkeypatch: pytest.MonkeyPatch, cores: int, worth: float
) -> None:
    monkeypatch.setattr("features.extraction.decode_batches.WORTH_STARTING", worth)
    monkeypatch.setattr("features.extraction.decode_batches.cpu_count", lambda: cores)
    flat = [one for batch in decode_batches(number_and_process, BATCHES[:2]) for one in batch]
    assert {int(one[1]) for one in flat} == {os.getpid()}


def number_or_missing_package(item: str | Path) -> np.ndarray:
    if str(item) == "50":
        raise UserError("50 needs a package: install it", details="so")
    return number(item)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_the_user_must_mend_stops_instead_of_failing_every_item(workers: int) -> None:
    decoded = decode_batches(number_or_missing_package, BATCHES, workers=workers)
    assert len(next(decoded)) == 40
    with pytest.raises(UserError, match="50 needs a package: install it") as error:
        list(decoded)
    assert error.value.details == "so"
