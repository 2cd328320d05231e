"""A few signals, second writers, readers and jumping clocks; `python -m tests.faults` for more."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults import by_clock, by_company, by_signals
from tests.faults.fault import MissedError

CHOSEN = (
    "extract-SIGTERM", "extract-SIGKILL-of-a-worker", "import-SIGINT", "merge-SIGKILL",
    "merge-reader", "export-two-writers", "import-clock-jump",
)  # fmt: skip
FAULTS = {fault.name: fault for fault in (*by_signals.FAULTS, *by_company.FAULTS, *by_clock.FAULTS)}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_fault_loses_nothing(tmp_path: Path, name: str) -> None:
    for attempt in range(4):
        with suppress(MissedError):
            assert FAULTS[name].inject(tmp_path / f"{attempt}", random.Random(f"{name}-{attempt}"))
            return
    pytest.fail("the command ended before the signal, every time")


def test_no_two_kinds_have_one_name() -> None:
    kinds = [*by_signals.FAULTS, *by_company.FAULTS, *by_clock.FAULTS]
    assert len(FAULTS) == len(kinds)
