"""Columns of a source stay with its items: in memories, indices, hits and other tools' files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import UserError
from features.exchange.choose import ColumnNames, choose_columns
from features.exchange.exporting import export_memory
from features.exchange.importing import import_memory
from features.exchange.opening import open_embeddings
from features.extraction.sources import read_source
from features.memories.memory import Memory
from features.memories.writing import save_memory
from features.search.building import build_index
from features.search.index import hit_table, open_index
from tests.features.helpers import FakeEncoder, unit_rows

TABLE = "text,speaker,take,a/b\none,ada,1,x\ntwo,bob,2,\nthree,ada,3,z\n"
METADATA = {"speaker": ["ada", "bob", "ada"], "take": ["1", "2", "3"], "a/b": ["x", "", "z"]}


def _table(folder: Path, content: str = TABLE) -> str:
    path = folder / "t.csv"
    path.write_text(content, encoding="utf-8")
    return str(path)


def _memory(folder: Path, name: str = "m.h5") -> Memory:
    return save_memory(
        folder / name, unit_rows(3, 8), ["one", "two", "three"], space="s", modality="text",
        metadata=METADATA, overwrite=True,
    )  # fmt: skip


def _read(memory: Memory) -> dict[str, list[str]]:
    return {name: list(column) for name, column in memory.metadata.items()}


def test_extraction_keeps_all_columns_but_those_that_are_used(tmp_path: Path) -> None:
    from features.extraction.extract import extract

    source = read_source(_table(tmp_path), "text", label_column="speaker")
    done = extract(source, FakeEncoder(), "text", tmp_path / "m.h5", batch_size=2)
    assert _read(done.memory) == {name: METADATA[name] for name in ("take", "a/b")}
    assert list(done.memory.labels or ()) == METADATA["speaker"]
    done.memory.verify()


@pytest.mark.parametrize(("keep", "kept"), [(["take"], ["take"]), ([], []), (None, [*METADATA])])
def test_columns_to_keep_are_chosen(tmp_path: Path, keep: list[str], kept: list[str]) -> None:
    source = read_source(_table(tmp_path), "text", keep=keep)
    assert source.columns == kept
    assert source.items[1].metadata == tuple(METADATA[name][1] for name in kept)


def test_a_column_to_keep_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no column 'mood': its columns are text, speaker"):
        read_source(_table(tmp_path), "text", keep=["mood"])
    with pytest.raises(UserError, match=r"--keep names a column but .* is not a table"):
        read_source(str(tmp_path), "image", keep=["mood"])


def test_lists_and_bytes_are_not_metadata(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], "vector": [[1.0], [2.0]], "raw": [b"1", b"2"], "n": [1, 2]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert read_source(str(tmp_path / "t.parquet"), "text").columns == ["n"]


def test_repeated_items_have_the_columns_of_the_first(tmp_path: Path) -> None:
    source = read_source(_table(tmp_path, "text,take\na,1\na,2\n"), "text")
    assert [item.metadata for item in source.items] == [("1",)]
    assert len(source.notes) == 1


def test_another_value_is_another_extraction(tmp_path: Path) -> None:
    from features.extraction.extract import extract

    extract(read_source(_table(tmp_path), "text"), FakeEncoder(), "text", tmp_path / "m.h5")
    changed = read_source(_table(tmp_path, TABLE.replace("bob", "eve")), "text")
    with pytest.raises(UserError, match="made from another source"):
        extract(changed, FakeEncoder(), "text", tmp_path / "m.h5", resume=True)


def test_memories_keep_columns_of_any_name_and_notice_damage(tmp_path: Path) -> None:
    memory = _memory(tmp_path)
    assert _read(memory) == METADATA
    memory.verify()
    with h5py.File(memory.path, "r+") as file:
        file["columns"].attrs["names"] = json.dumps(["speaker", "take", "c"])
    with pytest.raises(UserError, match="damaged"):
        Memory(memory.path).verify()


def test_a_column_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 values of 'x' were given for 2 ids"):
        save_memory(
            tmp_path / "m.h5", unit_rows(2, 4), ["a", "b"], space="s", modality="text",
            metadata={"x": ["1"]},
        )  # fmt: skip


def test_hits_of_memories_and_indices_have_them(tmp_path: Path) -> None:
    memory = _memory(tmp_path)
    build_index(memory, tmp_path / "i.faiss")
    expected = {"speaker": "bob", "take": "2", "a/b": ""}
    for table in (hit_table(memory), open_index(tmp_path / "i.faiss").table):
        assert table.hits([1], [0.5])[0].columns == expected


@pytest.mark.parametrize("name", ["m.npz", "m.parquet", "m.safetensors", "folder", "m.hdf5"])
def test_other_tools_files_carry_them_there_and_back(tmp_path: Path, name: str) -> None:
    memory = _memory(tmp_path)
    assert export_memory(memory, tmp_path / name) == ["columns"]  # a/b has no place
    file = open_embeddings(tmp_path / name, "text")
    columns, notes = choose_columns(file, "text", ColumnNames())
    kept = {name: METADATA[name] for name in ("speaker", "take")}
    assert {name: list(column) for name, column in columns.metadata.items()} == kept, notes
    back = import_memory(file, columns, tmp_path / "back.h5", memory.header)
    assert _read(back.memory) == kept
    columns, _ = choose_columns(file, "text", ColumnNames(keep=["take"]))
    assert list(columns.metadata) == ["take"]


def test_rows_that_are_left_out_take_their_metadata_along(tmp_path: Path) -> None:
    rows = unit_rows(3, 8).astype("float32")
    rows[1] = 0
    table = {"id": ["a", "b", "c"], "embedding": list(rows), "n": ["1", "2", "3"]}
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    file = open_embeddings(tmp_path / "t.parquet", "text")
    columns, _ = choose_columns(file, "text", ColumnNames())
    header = _memory(tmp_path).header
    done = import_memory(file, columns, tmp_path / "left.h5", header)
    assert _read(done.memory) == {"n": ["1", "3"]}


def test_columns_that_are_no_text_are_left_out_with_a_note(tmp_path: Path) -> None:
    table = {"id": ["a"], "embedding": [[1.0, 0.0]], "raw": [b"\xff"]}
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    columns, notes = choose_columns(
        open_embeddings(tmp_path / "t.parquet", "text"), "text", ColumnNames()
    )
    assert columns.metadata == {}
    assert any("the column 'raw' is left out" in note for note in notes)


def test_export_says_which_formats_lose_them(tmp_path: Path) -> None:
    assert "columns" in export_memory(_memory(tmp_path), tmp_path / "m.npy")
