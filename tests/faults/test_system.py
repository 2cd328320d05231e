"""A few faults of the system; `python -m tests.faults` injects as many as it is told."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.faults import system, workers
from tests.faults.shim import COMPILER

FEW = (
    "extract-ENOSPC", "extract-file-size", "index-EIO-of-the-disk", "train-ENOSPC-once",
    "import-short-writes", "export-.npy-EDQUOT",
)  # fmt: skip


@pytest.mark.skipif(COMPILER is None, reason="the preloaded library needs a C compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="the preloaded library is for Linux")
@pytest.mark.parametrize("name", FEW)
def test_a_failing_system_loses_nothing_and_is_named(name: str, tmp_path: Path) -> None:
    (fault,) = [one for one in system.FAULTS if one.name == name]
    assert fault.inject(tmp_path, random.Random(0))


def test_a_file_that_hangs_fails_alone(tmp_path: Path) -> None:
    (fault,) = [one for one in workers.FAULTS if one.kind == "file hangs 2 workers"]
    assert "took longer than 2 s" in fault.inject(tmp_path, random.Random(0))
