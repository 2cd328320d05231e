"""Indices find what brute force finds, say how well, and notice parts that do not fit."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest

from features.errors import UserError
from features.locks import sole_writer
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import save_memory, write_memory
from features.sealed import read_sealed, sealed
from features.search import building
from features.search.building import build_index
from features.search.index import FaissIndex, Hit, open_index
from tests.features.helpers import changing, unit_rows

N, D = 600, 16
KINDS = ["flat", "hnsw", "ivf", "SQ8", "IVF8,Flat", "PCA16,IVF15,Flat"]


def _memory(path: Path, *, n: int = N, d: int = D, seed: int = 0) -> Memory:
    ids = [f"item {i}" for i in np.random.default_rng(1).permutation(n)]
    header = MemoryHeader("s", "image", d, "float32", {"name": "e"}, root="/data")
    columns = Columns(ids, [f"{name}.png" for name in ids], [name[-1] for name in ids])
    return write_memory(path, header, columns, [unit_rows(n, d, seed=seed)], overwrite=True)


def _brute(memory: Memory, queries: np.ndarray, k: int) -> tuple[list[list[str]], np.ndarray]:
    """Ids and cosines of the k nearest rows, by numpy."""
    scores = queries @ np.asarray(memory.embeddings, np.float32).T
    rows = np.argsort(-scores, axis=1)[:, :k]
    return [[memory.ids[row] for row in one] for one in rows], np.take_along_axis(scores, rows, 1)


def _overlap(index: FaissIndex, memory: Memory, queries: np.ndarray, k: int) -> float:
    expected, _ = _brute(memory, queries, k)
    found = [{hit.id for hit in hits} for hits in index.search(queries, k)]
    return float(np.mean([len(set(e) & f) / k for e, f in zip(expected, found, strict=True)]))


@pytest.mark.parametrize("kind", KINDS)
def test_hits_are_those_of_brute_force(tmp_path: Path, kind: str) -> None:
    memory = _memory(tmp_path / "m.h5")
    index = build_index(memory, tmp_path / "i.faiss", kind=kind)
    assert len(index) == N
    queries = unit_rows(50, D, seed=7)
    expected, scores = _brute(memory, queries, 10)
    hits = index.search(queries, 10)
    if kind in ("flat", "hnsw"):
        assert [[hit.id for hit in one] for one in hits] == expected
        np.testing.assert_allclose([[hit.score for hit in one] for one in hits], scores, atol=1e-5)
    assert _overlap(index, memory, queries, 10) > 0.75
    assert all(one == sorted(one, key=lambda hit: -hit.score) for one in hits)
    first = hits[0][0]
    assert first == Hit(
        first.id, first.score, f"{first.id}.png", first.id[-1], f"/data/{first.id}.png"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_recall_is_measured_and_stored(tmp_path: Path, kind: str) -> None:
    memory = _memory(tmp_path / "m.h5")
    index = build_index(memory, tmp_path / "i.faiss", kind=kind)
    stored = json.loads((tmp_path / "i.json").read_text())["recall@10"]
    assert stored == open_index(tmp_path / "i.faiss").about["recall@10"]
    assert stored == pytest.approx(_overlap(index, memory, unit_rows(N, D), 10), abs=1e-4)
    assert stored == 1 if kind == "flat" else stored > 0.75


def test_many_answers_come_as_arrays(tmp_path: Path) -> None:
    memory = _memory(tmp_path / "m.h5", n=5)
    index = build_index(memory, tmp_path / "i.faiss")
    queries = unit_rows(3, D, seed=7)
    scores, rows = index.search_rows(queries, 9)
    assert scores.shape == rows.shape == (3, 5)
    assert [
        [Hit(memory.ids[row], score, memory.items[row], memory.labels[row],
             f"/data/{memory.items[row]}") for row, score in zip(*one, strict=True)]
        for one in zip(rows.tolist(), scores.tolist(), strict=True)
    ] == index.search(queries, 9)  # fmt: skip


def test_a_graph_is_searched_as_deep_as_recall_needs(tmp_path: Path, monkeypatch) -> None:
    memory = _memory(tmp_path / "m.h5")
    easy = build_index(memory, tmp_path / "easy.faiss", kind="hnsw")
    assert easy.about["search"]["efSearch"] == easy.faiss_index.hnsw.efSearch == 64
    monkeypatch.setattr(building, "DEPTHS", (1, 2, 100))
    shallow = build_index(memory, tmp_path / "hard.faiss", kind="hnsw")
    assert shallow.about["search"]["efSearch"] == shallow.faiss_index.hnsw.efSearch == 100
    monkeypatch.setattr(building, "DEPTHS", (1, 2))
    hopeless = build_index(memory, tmp_path / "never.faiss", kind="hnsw")
    assert hopeless.about["search"]["efSearch"] == 2
    assert hopeless.about["recall@10"] < 0.99 <= shallow.about["recall@10"]


def test_a_graph_keeps_the_precision_of_its_memory(tmp_path: Path) -> None:
    wide = _memory(tmp_path / "m.h5")
    half = save_memory(tmp_path / "h.h5", np.asarray(wide.embeddings, np.float16), wide.ids,
                       space="s", modality="image")  # fmt: skip
    made = {
        memory.embeddings.dtype.name: build_index(
            memory, tmp_path / f"{memory.path.stem}.faiss", kind="hnsw"
        )
        for memory in (wide, half)
    }
    assert {name: one.about["factory"] for name, one in made.items()} == {
        "float32": "HNSW32", "float16": "HNSW32_SQfp16",
    }  # fmt: skip
    queries = unit_rows(50, D, seed=7)
    _, scores = _brute(half, queries, 10)
    found, _ = made["float16"].search_rows(queries, 10)
    np.testing.assert_allclose(found, scores, atol=1e-3)
    assert made["float16"].about["recall@10"] > 0.99
    assert _overlap(made["float16"], half, queries, 10) > 0.99
    sizes = {name: one.path.stat().st_size for name, one in made.items()}
    assert sizes["float32"] - sizes["float16"] > 1.9 * N * D


def test_an_open_index_stays_on_the_disk(tmp_path: Path) -> None:
    """Else opening one of a million items would take as long as reading all of it."""
    status = Path("/proc/self/status")
    if not status.exists() or not hasattr(faiss, "IO_FLAG_MMAP_IFC"):
        pytest.skip("needs Linux and FAISS 1.11")
    memory = save_memory(tmp_path / "m.h5", unit_rows(50_000, 128), [str(i) for i in range(50_000)],
                         space="s", modality="text")  # fmt: skip
    path = build_index(memory, tmp_path / "i.faiss").path
    assert path.stat().st_size > 25e6

    def private() -> int:
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024

    before = private()
    index = open_index(path)
    index.search(unit_rows(1, 128), 1)
    assert private() - before < 5e6


def test_exact_ties_are_no_misses(tmp_path: Path) -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    memory = save_memory(tmp_path / "m.h5", rows, [str(i) for i in range(100)], space="s",
                         modality="text")  # fmt: skip
    index = build_index(memory, tmp_path / "i.faiss", kind="hnsw")
    assert index.about["recall@10"] == 1
    hit = index.search(rows[:1], 1)[0][0]
    assert (hit.item, hit.label, hit.path, hit.score) == (hit.id, None, None, 1)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("n", [1, 5, 80])
def test_k_beyond_the_index_gives_what_there_is(tmp_path: Path, kind: str, n: int) -> None:
    memory = _memory(tmp_path / "m.h5", n=n)
    index = build_index(memory, tmp_path / "i.faiss", kind=kind)
    hits = index.search(unit_rows(3, D, seed=5), n + 50)
    assert all(len({hit.id for hit in one}) == len(one) <= n for one in hits)
    if kind == "flat":
        assert [{hit.id for hit in one} for one in hits] == [set(memory.ids)] * 3


def test_float16_memories_are_searched_by_cosine(tmp_path: Path) -> None:
    rows = unit_rows(40, D).astype(np.float16)
    names = [str(i) for i in range(40)]
    memory = save_memory(tmp_path / "m.h5", rows, names, space="s", modality="text")
    hits = build_index(memory, tmp_path / "i.faiss").search(memory.tensor().numpy(), 1)
    assert [one[0].id for one in hits] == names
    np.testing.assert_allclose([one[0].score for one in hits], 1, atol=1e-6)


def test_the_same_memory_gives_the_same_index(tmp_path: Path) -> None:
    memory = _memory(tmp_path / "m.h5")
    for name in ("a", "b"):
        build_index(memory, tmp_path / f"{name}.faiss", kind="ivf")
    assert (tmp_path / "a.faiss").read_bytes() == (tmp_path / "b.faiss").read_bytes()


@pytest.mark.parametrize("shape", [(2, D + 1), (D,), (2, 2, D)])
def test_queries_of_another_width_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    index = build_index(_memory(tmp_path / "m.h5"), tmp_path / "i.faiss")
    with pytest.raises(UserError, match="holds 16-d vectors but the queries have shape"):
        index.search(np.ones(shape, np.float32), 3)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nonsense", "FAISS cannot make the index 'nonsense' for 16-d vectors: use flat, hnsw"),
        ("", "FAISS cannot make the index ''"),
        ("PQ3", "FAISS cannot make the index 'PQ3' for 16-d vectors"),
        ("IVF601,Flat", "the 600 items of .* are too few to train the index IVF601,Flat: use flat"),
        ("IDMap,Flat", "IDMap,Flat"),
    ],
)
def test_a_kind_that_cannot_be_made_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_index(_memory(tmp_path / "m.h5"), tmp_path / "i.faiss", kind=kind)
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def test_outputs_are_named_and_kept(tmp_path: Path) -> None:
    memory = _memory(tmp_path / "m.h5")
    with pytest.raises(UserError, match=r"must end in \.faiss: write .*i\.faiss"):
        build_index(memory, tmp_path / "i.index")
    build_index(memory, tmp_path / "i.faiss")
    with pytest.raises(UserError, match=r"i\.faiss exists: pass --overwrite"):
        build_index(memory, tmp_path / "i.faiss", kind="hnsw")
    assert build_index(memory, tmp_path / "i.faiss", kind="hnsw", overwrite=True).about[
        "factory"
    ] == "HNSW32"  # fmt: skip


def test_an_index_that_was_cut_short_is_built_again_and_an_older_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, out = _memory(tmp_path / "m.h5"), tmp_path / "i.faiss"

    def names() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def build_on_a_full_disk(**more: bool) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(building, "write_strings", fill)
            build_index(memory, out, **more)  # type: ignore[arg-type]

    with pytest.raises(UserError, match=r"the disk is full: .*i\.ids\.h5"):
        build_on_a_full_disk()
    assert names() == ["m.h5"]
    build_index(memory, out)
    whole = {name: (tmp_path / name).read_bytes() for name in names()}
    with pytest.raises(UserError, match="the disk is full"):
        build_on_a_full_disk(overwrite=True)
    assert {name: (tmp_path / name).read_bytes() for name in names()} == whole
    # Killed before its description took its place: it is not yet an index.
    (tmp_path / "i.json").unlink()
    build_index(memory, out)
    assert {name: (tmp_path / name).read_bytes() for name in names()} == whole
    # Without a table of ids it may be anything, and stays.
    (tmp_path / "i.json").unlink()
    (tmp_path / "i.ids.h5").unlink()
    with pytest.raises(UserError, match=r"i\.faiss exists"):
        build_index(memory, out)
    assert names() == ["i.faiss", "m.h5"]
    build_index(memory, out, overwrite=True)
    assert {name: (tmp_path / name).read_bytes() for name in names()} == whole


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A flat index i.faiss of m.h5, and o.faiss of other vectors."""
    build_index(_memory(tmp_path / "m.h5"), tmp_path / "i.faiss")
    build_index(_memory(tmp_path / "o.h5", seed=1), tmp_path / "o.faiss")
    return tmp_path


@pytest.mark.parametrize("place", ["a" * 300 + ".h5", "\ud800.h5", "/dev/zero/m.h5"])
def test_a_description_without_a_root_or_of_a_place_that_cannot_be_is_read(
    built: Path, place: str
) -> None:
    about = read_sealed(built / "i.json")
    del about["header"]["root"]
    (built / "i.json").write_text(json.dumps(sealed({**about, "memory": place})))
    assert len(open_index(built / "i.faiss")) == about["items"]


@pytest.mark.parametrize("place", ["/etc/passwd", "/dev/zero", "a", "", "m.h5.partial"])
def test_a_description_names_no_other_file_than_a_memory(built: Path, place: str) -> None:
    """It may be of a stranger, and what it names is read."""
    about = read_sealed(built / "i.json")
    (built / "i.json").write_text(json.dumps(sealed({**about, "memory": place})))
    with pytest.raises(UserError, match=r"built from .*, and a memory is called NAME\.h5: rebuild"):
        open_index(built / "i.faiss")


def test_a_memory_that_is_not_called_as_one_is_not_indexed(tmp_path: Path) -> None:
    (memory := _memory(tmp_path / "m.h5")).path.rename(tmp_path / "m.hdf5")
    with pytest.raises(UserError, match=r"m\.hdf5 is not called NAME\.h5, as memories are"):
        build_index(Memory(tmp_path / "m.hdf5"), tmp_path / "i.faiss")
    assert len(memory) == N


@pytest.mark.parametrize("name", ["i.faiss", "i.ids.h5", "i.json"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_part_is_noticed(built: Path, name: str, kept: float) -> None:
    content = (built / name).read_bytes()
    (built / name).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"damaged.*rebuild|does not describe an index"):
        open_index(built / "i.faiss")


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_a_truncated_index_of_other_kinds_is_noticed(tmp_path: Path, kind: str) -> None:
    path = build_index(_memory(tmp_path / "m.h5"), tmp_path / "i.faiss", kind=kind).path
    content = path.read_bytes()
    path.write_bytes(content[: int(0.9 * len(content))])
    with pytest.raises(UserError, match="is damaged, or it, its"):
        open_index(path)


@pytest.mark.parametrize("name", ["i.faiss", "i.ids.h5", "i.json"])
def test_a_missing_part_is_named(built: Path, name: str) -> None:
    (built / name).unlink()
    with pytest.raises(UserError, match=f"{name} does not exist"):
        open_index(built / "i.faiss")


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}", '{"format": "mcr-bridge index 1"}'])
def test_a_foreign_description_is_refused(built: Path, content: str) -> None:
    (built / "i.json").write_text(content)
    with pytest.raises(UserError, match=r"i\.json"):
        open_index(built / "i.faiss")


def test_a_table_of_ids_that_lacks_them_is_refused(built: Path) -> None:
    with changing(built / "i.ids.h5") as file:
        del file["ids"]
    with pytest.raises(UserError, match=r"i\.ids\.h5 is damaged"):
        open_index(built / "i.faiss")


@pytest.mark.parametrize("suffix", [".json", ".ids.h5"])
def test_parts_of_another_index_do_not_belong(built: Path, suffix: str) -> None:
    shutil.copy(built / f"o{suffix}", built / f"i{suffix}")
    with pytest.raises(UserError, match="do not belong together: rebuild them"):
        open_index(built / "i.faiss")


@pytest.mark.parametrize(("n", "d"), [(N - 1, D), (N, D + 1)])
def test_vectors_of_another_size_do_not_belong(built: Path, n: int, d: int) -> None:
    build_index(_memory(built / "x.h5", n=n, d=d), built / "x.faiss")
    shutil.copy(built / "x.faiss", built / "i.faiss")
    with pytest.raises(UserError, match="do not belong together: rebuild them"):
        open_index(built / "i.faiss")


def test_a_memory_that_changed_since_is_noticed(built: Path) -> None:
    shutil.copy(built / "o.h5", built / "m.h5")
    with pytest.raises(UserError, match=r"was built from the memory .* is now .*--overwrite"):
        open_index(built / "i.faiss")


def test_a_memory_that_is_gone_is_no_harm(built: Path, tmp_path: Path) -> None:
    query = unit_rows(1, D, seed=2)
    before = open_index(built / "i.faiss").search(query, 3)
    (built / "m.h5").rename(built / "away.h5")
    (tmp_path / "elsewhere").mkdir()
    for suffix in (".faiss", ".ids.h5", ".json"):
        shutil.move(built / f"i{suffix}", tmp_path / f"elsewhere/j{suffix}")
    moved = open_index(tmp_path / "elsewhere/j.faiss")
    assert moved.search(query, 3) == before
    assert moved.about["faiss"] == faiss.__version__
    assert moved.header.encoder == {"name": "e"}


@pytest.mark.parametrize("left", [("i.ids.h5",), ("i.ids.h5", "i.faiss")])
def test_an_index_goes_on_where_a_process_was_killed(tmp_path: Path, left: tuple[str, ...]) -> None:
    memory = _memory(tmp_path / "m.h5")
    build_index(memory, tmp_path / "whole" / "i.faiss")
    for name in left:
        shutil.copy(tmp_path / "whole" / name, tmp_path / name)
    (tmp_path / ".i.faiss.lock").touch()
    build_index(memory, tmp_path / "i.faiss")
    names = ["i.faiss", "i.ids.h5", "i.json"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "m.h5", "whole"]


def test_an_index_of_other_making_is_not_taken_for_an_unfinished_one(tmp_path: Path) -> None:
    memory = _memory(tmp_path / "m.h5")
    (tmp_path / "i.faiss").write_bytes(b"made with FAISS alone")
    with pytest.raises(UserError, match=r"i\.faiss exists: pass --overwrite"):
        build_index(memory, tmp_path / "i.faiss")


def test_one_process_at_a_time_writes_an_index(tmp_path: Path) -> None:
    memory, out = _memory(tmp_path / "m.h5"), tmp_path / "i.faiss"
    told = r"another process is writing .*i\.faiss: wait for it"
    with sole_writer(out), pytest.raises(UserError, match=told):
        build_index(memory, out, overwrite=True)
    build_index(memory, out)
