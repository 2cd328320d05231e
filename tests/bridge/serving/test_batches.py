"""Requests share batches, threads and processes: what is wrong with one harms no other."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from PIL import Image

from bridge.serving.answers import Answers
from bridge.serving.batching import Batcher
from bridge.serving.decoders import Decoders
from bridge.serving.limits import Limits
from bridge.serving.metrics import Metrics
from bridge.serving.prepared import JobResult, PreparedQuery, SearchJob
from bridge.serving.refusal import Refusal
from bridge.serving.rows import IndexRows
from bridge.serving.saved import SavedQueries, SavedQuery
from bridge.serving.state import Served, open_served
from features.memories.writing import save_memory
from features.search.building import build_index
from features.search.filters import TableFilters
from features.search.index import HitTable
from tests.bridge.conftest import unit_rows
from tests.bridge.serving.place import Place


def _open(place: Place) -> Served:
    return open_served([place.bridge], [place.pictures], [], device="cpu")


def _jobs(queries: list[PreparedQuery]) -> list[SearchJob]:
    return [SearchJob([query], ("pictures",), True, 3, 0, {}, False, False) for query in queries]


@pytest.mark.parametrize(
    ("where", "problem"),
    [("mini-clip", "128-d but these have shape"), ("bridge joined", "query cannot be searched")],
    ids=["projection", "search"],
)
def test_an_embedding_that_does_not_fit_harms_no_other(
    place: Place, where: str, problem: str
) -> None:
    served = _open(place)
    width = 128 if where == "mini-clip" else 32
    queries = [
        PreparedQuery("image", None, {where: unit_rows(1, size, seed=size)[0].float()})
        for size in (width, 7, width)
    ]
    first, second, third = Answers(served, SavedQueries(0), Metrics()).work(_jobs(queries))
    assert isinstance(second, Refusal)
    assert second.status == 422
    assert problem in str(second)
    assert str(place.folder) not in str(second)
    assert isinstance(first, JobResult)
    assert isinstance(third, JobResult)
    assert len(first.found[0].places) == 3
    assert first.found[0] == third.found[0]


class _FullDisk(SavedQueries):
    """Has no space left for one kind of query."""

    def keep(self, query: SavedQuery) -> str | None:
        if query.filename == "bad":
            raise OSError("no space left on device")
        return super().keep(query)


def test_a_result_that_fails_harms_no_other(place: Place) -> None:
    row = unit_rows(1, 32)[0].float()
    queries = [
        PreparedQuery("image", None, {"bridge joined": row}, filename=name, keep=True)
        for name in ("good", "bad")
    ]
    good, bad = Answers(_open(place), _FullDisk(9), Metrics()).work(_jobs(queries))
    assert isinstance(bad, OSError)
    assert isinstance(good, JobResult)


def test_columns_of_hits_are_ready_before_they_are_told(place: Place) -> None:
    served = _open(place)
    query = PreparedQuery("image", None, {"bridge joined": torch.ones(32) / 32**0.5})
    Answers(served, SavedQueries(0), Metrics()).work(_jobs([query]))
    filters = served.collections["pictures"].filters
    assert filters.metadata
    assert set(filters.metadata) <= set(filters._ready)


def test_a_column_that_is_ready_waits_for_no_other() -> None:
    table = HitTable(ids=["a"], items=["a"], labels=None, root=None, metadata={"year": ["2001"]})
    filters = TableFilters(table)
    filters.prepare()
    with filters.recent.lock, ThreadPoolExecutor(1) as pool:
        assert pool.submit(filters.values, 0).result(timeout=10) == {"year": 2001}


def test_where_rows_lie_is_noted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = save_memory(
        tmp_path / "rows.h5", unit_rows(900, 8).float().numpy(), range(900),
        space="s", modality="text",
    )  # fmt: skip
    index = build_index(memory, tmp_path / "rows.faiss", kind="ivf")
    rows, noted = IndexRows(index), []
    note = faiss.IndexIVF.make_direct_map

    def slowly(self, *arguments) -> None:
        noted.append(threading.get_ident())
        time.sleep(0.05)
        note(self, *arguments)

    monkeypatch.setattr(faiss.IndexIVF, "make_direct_map", slowly)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(rows.vector, range(8)))
    assert len(noted) == 1
    assert np.stack(found) == pytest.approx(memory.embeddings[:8], abs=1e-3)
    again = IndexRows(build_index(memory, tmp_path / "again.faiss", kind="ivf"))
    again.prepare()
    assert len(noted) == 2
    again.vector(0)
    assert len(noted) == 2


def test_a_full_queue_does_not_hold_up_the_end() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(jobs):
        begun.set()
        go_on.wait(20)
        return list(jobs)

    batcher: Batcher[int, int] = Batcher(work, waiting=2, most=1, name="test")
    first = batcher.submit(0)
    assert begun.wait(10)
    waiting = [batcher.submit(1), batcher.submit(2)]
    threading.Timer(0.3, go_on.set).start()
    closing = threading.Thread(target=batcher.close, daemon=True)
    closing.start()
    with pytest.raises(Refusal, match="is ending"):
        waiting[0].result(timeout=10)
    with pytest.raises(Refusal, match="is ending"):
        batcher.submit(3)
    assert first.result(timeout=10) == 0
    closing.join(timeout=10)
    assert not closing.is_alive()
    assert not batcher._thread.is_alive()


def test_a_process_that_is_there_is_not_dropped(tmp_path: Path) -> None:
    decoders = Decoders(Limits(), processes=1)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    decoders.run("thumbnail", tmp_path / "a.png")
    before = decoders._idle.queue[0]
    decoders.warm()
    assert list(decoders._idle.queue) == [before]
    decoders.close()
    assert before._process.poll() is not None
