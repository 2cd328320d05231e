"""Decoding in worker processes: in order, and one file that kills its worker is a bad item."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from features.errors import ItemError, UserError
from features.extraction.decode_batches import decode_batches
from features.room import all_bytes

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
    died = "the decoding process died on it (signal 11, Segmentation fault)"
    assert bad == dict.fromkeys((47, 130), died)
    assert [int(one[0]) for one in flat if not isinstance(one, ItemError)] == [
        i for i in range(200) if i not in bad
    ]


def test_workers_that_cannot_start_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.extraction.decode_pool.work", os._exit)
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


def number_or_end(item: str | Path) -> np.ndarray:
    """What kinds of ends there are, and one that happens once: a system short of memory."""
    name, _, mark = str(item).partition(":")
    if name == "exit":
        os._exit(7)
    if name == "leave":
        sys.exit(4)
    if name == "once" and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "greedy":
        np.ones(all_bytes(), np.uint8)
    return np.array([len(name)])


def test_only_what_ends_its_process_each_time_fails_and_with_how_it_ended(tmp_path: Path) -> None:
    died = "the decoding process died on it"
    reasons = {
        "exit": f"{died} (exit code 7)",
        "leave": f"{died} (exit code 4)",
        "kill": f"{died} (signal 9, out of memory?)",
        "greedy": "decoding it needs more memory than there is",
    }
    names = ["a", "exit", "bb", f"once:{tmp_path / 'mark'}", "leave", "kill", "greedy", "ccc"]
    (decoded,) = decode_batches(number_or_end, [names], workers=1)
    for name, one in zip(names, decoded, strict=True):
        if isinstance(one, ItemError):
            assert str(one) == reasons.pop(name)
        else:
            assert int(one[0]) == len(name.partition(":")[0])
    assert not reasons


def number_or_hang(item: str | Path) -> np.ndarray:
    if str(item) in ("3", "47", "150"):
        threading.Event().wait()
    return number(item)


TOO_LONG = "decoding it took longer than 0.3 s (--item-timeout)"


@pytest.mark.parametrize("workers", [1, 2, None])
def test_items_that_hang_are_bad_items_and_their_workers_are_replaced(
    monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    monkeypatch.setattr("features.extraction.decode_pool.WARMING", 0.5)
    batches = [[Path(item) for item in batch] for batch in BATCHES]
    started = time.monotonic()
    decoded = decode_batches(number_or_hang, batches, workers=workers, item_timeout=0.3)
    flat = [one for batch in decoded for one in batch]
    bad = {i: str(one) for i, one in enumerate(flat) if isinstance(one, ItemError)}
    assert bad == dict.fromkeys((3, 47, 150), TOO_LONG)
    assert [int(one[0]) for one in flat if not isinstance(one, ItemError)] == [
        i for i in range(200) if i not in bad
    ]
    assert time.monotonic() - started < 60
    assert multiprocessing.active_children() == []


def slow_number(item: str | Path) -> np.ndarray:
    time.sleep(0.1)
    return number(item)


def test_the_limit_is_of_an_item_not_of_what_travels_together() -> None:
    (decoded,) = decode_batches(slow_number, [[str(i) for i in range(20)]], workers=1,
                                item_timeout=1.0)  # fmt: skip
    assert [int(one[0]) for one in decoded] == list(range(20))


def test_a_limit_that_nothing_could_keep_is_refused() -> None:
    with pytest.raises(UserError, match=r"after 2 s only in a worker process: give --workers 1"):
        list(decode_batches(number, BATCHES, workers=0, item_timeout=2.0))
    assert len(list(decode_batches(number, BATCHES, workers=0, item_timeout=0.0))) == 5


def test_where_an_earlier_process_died_files_are_decoded_in_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("features.extraction.decode_batches.cpu_count", lambda: 1)
    batches = [[Path(item) for item in batch] for batch in BATCHES[1:2]]
    (decoded,) = decode_batches(number_or_crash, batches, begun=True)
    assert [i for i, one in enumerate(decoded) if isinstance(one, ItemError)] == [7]
    (told,) = decode_batches(number_and_process, [["1"]], begun=True)  # sentences kill nobody
    assert int(told[0][1]) == os.getpid()
    # Nobody asked for workers: where there can be none, this process decodes.
    (here,) = decode_batches(lambda item: number(item), batches, begun=True)
    assert len(here) == 40


def large_number(item: str | Path) -> np.ndarray:
    return np.full((64, 1024), int(str(item)), np.float32)


def test_workers_end_when_nobody_wants_more() -> None:
    decoded = decode_batches(large_number, BATCHES, workers=2)
    next(decoded)
    decoded.close()
    assert multiprocessing.active_children() == []
