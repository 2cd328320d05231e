"""An extraction that is killed, again and again, ends with the memory of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kill import kill_and_resume

KILLS = 4


@pytest.mark.slow
def test_killed_extractions_go_on_to_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    summary = kill_and_resume(tmp_path / "work", KILLS, seed=0)
    assert summary.kills == KILLS
    assert summary.inside >= 1
    assert summary.finished >= 1
    assert summary.differing == 0
    assert summary.survivors == 0
    assert summary.leftovers == ()
