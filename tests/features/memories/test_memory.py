"""Memories keep what they are given, notice what is wrong, and are read row by row."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import UserError
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import bad_rows, save_memory, write_memory
from tests.features.helpers import saved, unit_rows

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def contents(draw: st.DrawFn) -> tuple[MemoryHeader, Columns, np.ndarray]:
    n, d = draw(st.integers(1, 20)), draw(st.integers(1, 12))
    dtype = draw(st.sampled_from(["float16", "float32"]))
    ids = draw(st.lists(names, min_size=n, max_size=n, unique=True))
    columns = st.none() | st.lists(names, min_size=n, max_size=n)
    header = MemoryHeader(
        draw(names.filter(lambda name: "\0" not in name)),
        draw(st.sampled_from(["text", "image", "audio", "points"])),
        d,
        dtype,
        encoder={"name": draw(names), "size": [1, 2]},
        root=draw(st.none() | st.just("/data/ü")),
        extra={"plan": "p"},
    )
    rows = unit_rows(n, d, seed=draw(st.integers(0, 9)))
    return header, Columns(ids, draw(columns), draw(columns)), rows


@quick
@given(contents(), st.data())
def test_round_trip_and_same_bytes_however_it_is_split(
    tmp_path: Path, content: Any, data: st.DataObject
) -> None:
    header, columns, rows = content
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=5).map(sorted))
    memory = write_memory(tmp_path / "a.h5", header, columns, [rows], overwrite=True)
    split = np.split(rows.astype(data.draw(st.sampled_from(["f4", "f8"]))), cuts)
    write_memory(tmp_path / "b.h5", header, columns, split, overwrite=True)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert memory.header == header
    assert (len(memory), memory.dimension) == rows.shape
    assert (memory.space, memory.modality) == (header.space, header.modality)
    np.testing.assert_array_equal(memory.embeddings, rows.astype(header.dtype))
    assert list(memory.ids) == columns.ids
    assert list(memory.items) == (columns.ids if columns.items is None else columns.items)
    assert (None if memory.labels is None else list(memory.labels)) == columns.labels
    assert memory.row_of == {name: row for row, name in enumerate(columns.ids)}
    memory.verify()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["embeddings"].chunks is None
        assert file["embeddings"].dtype == header.dtype


def _fingerprint(path: Path, **changes: Any) -> str:
    base: dict[str, Any] = {
        "space": "s", "modality": "text", "dtype": "float32", "ids": ["a", "bc", "d"],
        "items": ["x", "y", "z"], "labels": ["1", "2", "1"], "rows": unit_rows(3, 4),
    }  # fmt: skip
    base |= changes
    header = MemoryHeader(base["space"], base["modality"], 4, base["dtype"])
    columns = Columns(base["ids"], base["items"], base["labels"])
    return write_memory(path, header, columns, [base["rows"]], overwrite=True).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"space": "t"},
        {"modality": "image"},
        {"dtype": "float16"},
        {"ids": ["ab", "c", "d"]},
        {"ids": ["a", "d", "bc"]},
        {"items": ["x", "y", ""]},
        {"items": None},
        {"labels": ["1", "2", "2"]},
        {"labels": None},
        {"items": ["1", "2", "1"], "labels": ["x", "y", "z"]},
        {"rows": unit_rows(3, 4, seed=1)},
        {"rows": unit_rows(3, 4)[[1, 0, 2]]},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_fingerprint_changes_with_the_content(tmp_path: Path, changes: Any) -> None:
    same = _fingerprint(tmp_path / "a.h5")
    assert _fingerprint(tmp_path / "b.h5") == same
    assert _fingerprint(tmp_path / "c.h5", **changes) != same


def test_fingerprint_tells_items_from_labels(tmp_path: Path) -> None:
    column = ["x", "y", "z"]
    as_items = _fingerprint(tmp_path / "a.h5", items=column, labels=None)
    as_labels = _fingerprint(tmp_path / "b.h5", items=None, labels=column)
    assert as_items != as_labels


ROWS = unit_rows(3, 4)
IDS = ["a", "b", "c"]


def _with(value: Any) -> np.ndarray:
    rows = ROWS.copy()
    rows[1] = value
    return rows


@pytest.mark.parametrize(
    ("columns", "batches", "message"),
    [
        (Columns(IDS), [_with(np.nan)], "'b': the embedding has NaN or infinite values"),
        (Columns(IDS), [ROWS[:1], _with(np.inf)[1:]], "'b': the embedding has NaN or infinite"),
        (Columns(IDS), [_with(0)], "'b': the embedding has zero norm"),
        (Columns(IDS), [_with([2, 0, 0, 0])], "'b': the embedding has norm 2, not 1"),
        (Columns(IDS), [ROWS, ROWS], "at least 6 embeddings were given for 3 ids"),
        (Columns(IDS), [ROWS[:2]], "2 embeddings were given for 3 ids"),
        (Columns(IDS), [ROWS[:, :3]], r"width 4 are expected, these have shape \(3, 3\)"),
        (Columns(IDS), [ROWS[0]], r"width 4 are expected, these have shape \(4,\)"),
        (Columns(["a", "b", "a"]), [ROWS], "the id 'a' appears twice"),
        (Columns([]), [], "a memory needs at least one item"),
        (Columns(IDS, items=["x"]), [ROWS], "1 items were given for 3 ids"),
        (Columns(IDS, labels=["x"] * 4), [ROWS], "4 labels were given for 3 ids"),
    ],
)
def test_wrong_rows_are_refused_and_nothing_is_left(
    tmp_path: Path, columns: Columns, batches: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_memory(tmp_path / "m.h5", MemoryHeader("s", "text", 4), columns, batches)
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_kept_unless_overwritten(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.h5").path
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"exists: pass --overwrite .* or choose another output"):
        saved(path)
    assert path.read_bytes() == before
    rows = unit_rows(2, 3)
    memory = save_memory(path, rows, ["a", "b"], space="s", modality="text", overwrite=True)
    assert len(memory) == 2


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder"):
        save_memory(tmp_path, ROWS, IDS, space="s", modality="text", overwrite=True)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_random_rows_are_those_of_h5py(tmp_path: Path, dtype: str) -> None:
    memory = saved(tmp_path / "m.h5", n=500, d=33, dtype=dtype)
    rows = np.random.default_rng(0).integers(0, 500, 200)
    with h5py.File(memory.path) as file:
        expected = file["embeddings"][...][rows]
    assert isinstance(memory.embeddings, np.memmap)
    np.testing.assert_array_equal(memory.rows(rows), expected)
    assert memory.rows(rows).dtype == dtype
    tensor = memory.tensor(rows)
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor.norm(dim=1), torch.ones(200), rtol=0, atol=1e-6)
    np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-3 if dtype == "float16" else 1e-6)
    assert torch.equal(memory.tensor()[rows], tensor)


def test_float16_of_any_unit_vector_is_accepted() -> None:
    rows = unit_rows(2000, 2048, seed=3).astype(np.float16)
    assert bad_rows(rows) == {}
    assert bad_rows(np.eye(3, dtype=np.float16)) == {}


def _sum_in_child(memory: Memory) -> tuple[float, str, list[str]]:
    return float(memory.embeddings.sum()), memory.fingerprint, list(memory.ids)


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_memory_travels_to_another_process(tmp_path: Path, method: str) -> None:
    memory = saved(tmp_path / "m.h5", n=300, d=64)
    assert len(pickle.dumps(memory)) < 1000
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        there = pool.submit(_sum_in_child, memory).result(timeout=60)
    assert there == _sum_in_child(memory)


def _read_in_child(memory: Memory, rows: list[int]) -> tuple[bytes, bytes]:
    return np.array(memory.embeddings).tobytes(), memory.rows(np.array(rows)).tobytes()


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_parallel_readers_do_not_disturb_each_other(tmp_path: Path, method: str) -> None:
    memory = saved(tmp_path / "m.h5", n=400, d=64)
    with h5py.File(memory.path) as file:
        expected = file["embeddings"][...]
    chosen = [np.random.default_rng(i).integers(0, 400, 50).tolist() for i in range(12)]
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        answers = list(pool.map(_read_in_child, [memory] * 12, chosen, timeout=120))
    assert answers == [(expected.tobytes(), expected[rows].tobytes()) for rows in chosen]


def test_item_path_is_below_the_root(tmp_path: Path) -> None:
    header = MemoryHeader("s", "image", 4, root="/data")
    memory = write_memory(tmp_path / "m.h5", header, Columns(IDS, ["x/1.png", "y", "z"]), [ROWS])
    assert memory.item_path(0) == Path("/data/x/1.png")
    assert saved(tmp_path / "t.h5").item_path(0) is None


def test_what_people_have_at_hand_is_saved(tmp_path: Path) -> None:
    rows = torch.nn.functional.normalize(torch.randn(3, 4), dim=1)
    memory = save_memory(
        tmp_path / "m.h5", rows, range(3), space="s", modality="text", labels=[7, 8, 9]
    )
    assert (list(memory.ids), list(memory.labels or ())) == (["0", "1", "2"], ["7", "8", "9"])
    np.testing.assert_array_equal(memory.embeddings, rows.numpy())
    with pytest.raises(UserError, match=r"floating point numbers, these have shape \(3,\)"):
        save_memory(tmp_path / "n.h5", [1, 2, 3], "abc", space="s", modality="text")
