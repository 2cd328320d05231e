"""What a server finds in the folder of queries that an earlier one kept."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bridge.serving.saved import NotTaken, SavedQueries, SavedQuery


def _keep(queries: SavedQueries, *, count: int) -> list[str]:
    vectors = torch.eye(8)
    keys = [queries.keep(SavedQuery("image", "a.png", {"s": vectors[i]})) for i in range(count)]
    return [key for key in keys if key is not None]


def test_queries_of_another_bridge_are_told_and_do_not_gather(tmp_path: Path) -> None:
    keys = _keep(SavedQueries(5, tmp_path, {"s": "before"}), count=5)
    (tmp_path / f"{keys[4]}.json").write_text("{")
    told = rf"5 of 5 queries in {tmp_path} are damaged, or of other bridges .* may be deleted"
    with pytest.warns(NotTaken, match=told):
        now = SavedQueries(2, tmp_path, {"s": "after"})
    assert len(now) == 0
    assert len(list(tmp_path.iterdir())) == 2
    mine = _keep(now, count=3)
    with pytest.warns(NotTaken, match="2 of 4 queries"):
        again = SavedQueries(2, tmp_path, {"s": "after"})
    assert [again.get(key) is None for key in mine] == [True, False, False]


def test_files_that_a_killed_server_was_writing_go(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".{'0' * 32}.json.{platform.node()}-{ended.pid}.tmp").write_text("{")
    mine = tmp_path / "mine.tmp"
    mine.write_text("")
    SavedQueries(2, tmp_path, {})
    assert list(tmp_path.iterdir()) == [mine]
