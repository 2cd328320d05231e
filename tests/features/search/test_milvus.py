"""An index in Milvus answers as one of FAISS, whatever is asked, and says what is wrong."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from features.errors import UserError
from features.memories.memory import Memory
from features.progress import SILENT
from features.search.backends import Index, build_index, open_index
from features.search.filters import FilterError, Range
from tests.features.search.milvus_places import IDS, D, N, make_memory, unit_queries

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

from features.search.milvus import backend, building
from features.search.milvus.collection import Collection

ODD = 'a "name" of\') its own'


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    return make_memory(tmp_path_factory.mktemp("milvus") / "m.h5")


@pytest.fixture(scope="module")
def database(memory: Memory) -> str:
    return f"milvus:{memory.path.with_name('index.db')}"


@pytest.fixture(scope="module")
def exact(memory: Memory) -> Index:
    return build_index(memory, memory.path.with_suffix(".faiss"))


@pytest.fixture(scope="module")
def index(memory: Memory, database: str) -> Index:
    return build_index(memory, database)


def test_a_thousand_queries_find_the_same_ids(exact: Index, index: Index, memory: Memory) -> None:
    queries = unit_queries(1000, near=memory)
    assert len(index) == len(exact) == N
    scores, rows = exact.search_rows(queries, 10)
    in_milvus = index.search_rows(queries, 10)
    np.testing.assert_array_equal(in_milvus[1], rows)
    np.testing.assert_allclose(in_milvus[0], scores, atol=1e-6)
    by_hand = queries.astype(np.float64) @ np.asarray(memory.embeddings, np.float64).T
    # Copies of a row have exactly its score, and come in their order.
    np.testing.assert_array_equal(
        rows, np.argsort(-by_hand.round(12), axis=1, kind="stable")[:, :10]
    )


def test_hits_tell_what_the_memory_knows(exact: Index, index: Index) -> None:
    queries = unit_queries(5)
    for mine, theirs in zip(index.search(queries, 7), exact.search(queries, 7), strict=True):
        assert [(hit.id, hit.item, hit.label, hit.path, hit.columns) for hit in mine] == [
            (hit.id, hit.item, hit.label, hit.path, hit.columns) for hit in theirs
        ]
    assert index.header == exact.header
    assert index.about["recall@10"] == 1


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        ({"year": ["2003", 2004.0]}, True),
        ({"year": Range(2003.5, 2010)}, True),
        ({"year": Range(max=2001)}, True),
        ({"year": Range()}, True),
        ({"year": [1e300, 2003.5]}, False),
        ({"year": Range(min=1e300)}, False),
        ({"year": Range(2010, 2005)}, False),
        ({"price": ["2.5", 7]}, True),
        ({"price": Range(min=3)}, True),
        ({"share": Range(-1.25, 2)}, True),
        ({"share": [-0.0, -2.875, "nan"]}, True),
        ({"sold": ["true"]}, True),
        ({"sold": ["false", ""]}, True),
        ({"sold": ["True"]}, False),
        ({"code": ["03", "04"]}, True),
        ({"code": [3]}, False),
        ({ODD: ['a"b\\']}, True),
        ({ODD: ["line\nbreak\t", "\ud800"]}, True),
        ({ODD: ["ü' or 1 == 1"]}, True),
        ({ODD: [""]}, True),
        ({ODD: ['" or row >= 0 or "" == "']}, False),
        ({ODD: ['x"] or row in [1']}, False),
        ({"label": ["class 1", "class 2"], "year": Range(min=2004)}, True),
        ({"label": [""], "sold": ["true"]}, True),
        ({"elsewhere": ["1"]}, False),
        ({'row >= 0) or ("" == "': [""]}, False),
    ],
)
def test_filters_let_the_same_items_pass(exact: Index, index: Index, where, passes: bool) -> None:
    queries = unit_queries(3)
    allowed, pushed = exact.filters.passing(where), index.filters.passing(where)
    assert index.filters.count(pushed) == exact.filters.count(allowed)
    assert (index.filters.count(pushed) > 0) == passes
    np.testing.assert_array_equal(
        index.search_rows(queries, 20, pushed)[1], exact.search_rows(queries, 20, allowed)[1]
    )


@pytest.mark.parametrize("where", [{"code": Range(min=1)}, {"year": ["new"]}, {"sold": Range(1)}])
def test_filters_of_the_wrong_kind_are_refused_alike(exact: Index, index: Index, where) -> None:
    with pytest.raises(FilterError) as one:
        exact.filters.passing(where)
    with pytest.raises(FilterError) as other:
        index.filters.passing(where)
    assert str(one.value) == str(other.value)


def test_columns_are_told_alike(exact: Index, index: Index) -> None:
    assert index.filters.infos == exact.filters.infos
    assert index.filters.names == exact.filters.names
    for row in (0, 1, 5, N - 1):
        assert index.filters.values(row) == exact.filters.values(row)
    assert index.table.row_of(IDS[17]) == 17
    assert index.table.row_of('" or row == 3') is None
    np.testing.assert_array_equal(index.vectors(np.array([3, 1])), exact.vectors(np.array([3, 1])))


def test_several_threads_search_together(index: Index) -> None:
    queries = unit_queries(8)
    alone = [index.search(queries[place : place + 1], 4) for place in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda place: index.search(queries[place : place + 1], 4), range(8))
    assert list(found) == alone


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "autoindex"])
def test_other_kinds_find_most(memory: Memory, database: str, kind: str) -> None:
    made = build_index(memory, f"{database}#{kind}", kind=kind)
    queries = unit_queries(20, near=memory)
    _, found = made.search_rows(queries, 10)
    scores = np.asarray(memory.embeddings) @ queries.T
    reached = np.take_along_axis(scores.T, found, 1).sum(axis=1)
    best = -np.sort(-scores.T, axis=1)[:, :10].sum(axis=1)
    assert (reached >= 0.8 * best).mean() > 0.8
    assert made.about["recall@10"] > 0.8


class _Stopping:
    """Progress that is ended with Ctrl-C after so many rows."""

    def __init__(self, rows: int) -> None:
        self.left = rows

    @contextmanager
    def task(self, *_: object, **__: object) -> Iterator[object]:
        def advance(rows: int) -> None:
            self.left -= rows
            if self.left <= 0:
                raise KeyboardInterrupt

        yield advance


def test_an_interrupted_index_is_continued(
    memory: Memory, database: str, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_BATCH_ROWS", 20)
    monkeypatch.setattr(building, "_BLOCK", 40)
    written: list[int] = []
    write = Collection.write

    def counting(self: Collection, rows: list) -> None:
        written.extend(one["row"] for one in rows)
        write(self, rows)

    monkeypatch.setattr(Collection, "write", counting)
    place = f"{database}#stopped"
    with pytest.raises(KeyboardInterrupt):
        build_index(memory, place, progress=_Stopping(100))
    assert written == [*range(100)]
    with pytest.raises(UserError, match="#stopped is not finished: run the command that builds it"):
        open_index(place)
    written.clear()
    made = build_index(memory, place)
    assert written == [*range(80, N)]  # 80 to 100 again, as their block was not whole
    assert made.about["digest"] == index.about["digest"]
    assert backend.check(place, progress=SILENT)[1] is None
    with pytest.raises(UserError, match=r"#stopped exists: pass --overwrite"):
        build_index(memory, place)


def test_an_unfinished_index_of_another_memory_is_begun_anew(database: str, tmp_path: Path) -> None:
    other, place = make_memory(tmp_path / "o.h5", seed=1, n=60), f"{database}#other"
    with pytest.raises(KeyboardInterrupt):
        build_index(make_memory(tmp_path / "p.h5", seed=2, n=50), place, progress=_Stopping(10))
    made = build_index(other, place)
    assert len(made) == 60
    assert made.about["fingerprint"] == other.fingerprint


def test_one_that_is_replaced_is_whole_until_then(database: str, tmp_path: Path) -> None:
    place = f"{database}#replaced"
    build_index(make_memory(tmp_path / "p.h5", seed=2, n=50), place)
    other = make_memory(tmp_path / "o.h5", seed=1, n=60)
    with pytest.raises(KeyboardInterrupt):
        build_index(other, place, overwrite=True, progress=_Stopping(10))
    assert len(open_index(place)) == 50
    assert len(build_index(other, place, overwrite=True)) == 60
    assert len(open_index(place)) == 60


def test_a_changed_row_is_found_by_its_checksum(database: str, tmp_path: Path) -> None:
    place = f"{database}#damaged"
    made = build_index(make_memory(tmp_path / "p.h5", seed=2, n=50), place)
    assert backend.check(place, progress=SILENT)[1] is None
    client = made.collection.client
    row = client.query("damaged", filter="row == 7", output_fields=["*"])[0]
    client.upsert("damaged", [{**row, "label": "another"}])
    assert "its content has checksum" in (backend.check(place, progress=SILENT)[1] or "")
    client.delete("damaged", ids=[7])
    with pytest.raises(UserError, match="was built with 50 rows and has 49: rebuild it"):
        open_index(place)


def test_a_memory_that_changed_since_is_noticed(database: str, tmp_path: Path) -> None:
    place = f"{database}#moved"
    build_index(make_memory(tmp_path / "p.h5", seed=2, n=50), place)
    make_memory(tmp_path / "p.h5", seed=3, n=50)
    with pytest.raises(UserError, match=r"#moved was built from .* is now .*--overwrite"):
        open_index(place)
    (tmp_path / "p.h5").unlink()
    assert len(open_index(place)) == 50


def test_a_collection_of_somebody_else_is_left_as_it_is(index: Index, memory: Memory) -> None:
    client = index.collection.client
    client.create_collection("foreign", dimension=D)
    place = str(index.collection.place.named("foreign"))
    with pytest.raises(UserError, match="was not made by this program and is left as it is"):
        build_index(memory, place, overwrite=True)
    with pytest.raises(UserError, match="did not make: name another"):
        open_index(place)
    assert client.has_collection("foreign")


@pytest.mark.usefixtures("index")
def test_an_address_of_several_needs_a_name(memory: Memory, database: str) -> None:
    build_index(make_memory(memory.path.with_name("second.h5"), n=50), f"{database}#second")
    with pytest.raises(UserError, match=r"says no collection, there are .*m.*second"):
        open_index(database)
    with pytest.raises(UserError, match=r"#third does not exist, there are .*second"):
        open_index(f"{database}#third")


@pytest.mark.parametrize("shape", [(2, D + 1), (D,)])
def test_queries_of_another_width_are_refused(index: Index, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="holds 16-d vectors but the queries have shape"):
        index.search(np.ones(shape, np.float32), 3)


def test_a_database_that_another_process_has_open(memory: Memory, tmp_path: Path) -> None:
    locked = tmp_path / "locked.db"
    locked.mkdir()
    with (locked / "LOCK").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"locked\.db is open in another process"):
            build_index(memory, f"milvus:{locked}")


def test_a_file_that_is_no_database(memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(UserError, match=r"text\.db is no database of milvus-lite"):
        build_index(memory, f"milvus:{tmp_path / 'text.db'}")


def test_texts_that_milvus_does_not_take_are_refused(database: str, tmp_path: Path) -> None:
    from features.memories.writing import save_memory

    for name, text in (("is not Unicode", "a\udcffb"), ("has a text of 70000 bytes", "x" * 70_000)):
        stored = save_memory(
            tmp_path / f"{len(text)}.h5", unit_queries(2), ["a", text], space="s", modality="text"
        )
        with pytest.raises(UserError, match=name.removeprefix("has a ").removeprefix("is ")):
            build_index(stored, f"{database}#texts")


def test_a_server_is_used_by_its_address(exact: Index, memory: Memory, tmp_path: Path) -> None:
    """The server of milvus-lite speaks the protocol of all others."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(str(tmp_path / "served"))
    try:
        place = f"milvus+http://127.0.0.1:{port}#far"
        made = build_index(memory, place)
        assert made.path == place
        queries = unit_queries(20)
        np.testing.assert_array_equal(
            open_index(place).search_rows(queries, 5)[1], exact.search_rows(queries, 5)[1]
        )
    finally:
        threading.Thread(target=server.stop, args=(0,)).start()
        database.close()
