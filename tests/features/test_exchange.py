"""Memories into every format and back, and what other tools read in the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from features.errors import UserError
from features.exchange.choose import ColumnNames, choose_columns
from features.exchange.exporting import FORMATS, export_memory, format_of
from features.exchange.importing import Imported, import_memory
from features.exchange.made_by import MadeBy, header_for
from features.exchange.neighbors import read_neighbors
from features.exchange.opening import open_embeddings
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import save_memory, write_memory
from tests.features.helpers import files_of, unit_rows

NEEDS_ARROW = ("parquet", "clip-retrieval")
ENCODER = {"name": "e", "weights": "w"}


def importing(
    source: Path, out: Path, modality: Any = "image", key: str | None = None, **names: Any
) -> Imported:
    """Import as `mcr import` does."""
    file = open_embeddings(source, modality, key=key)
    columns, _ = choose_columns(file, modality, ColumnNames(**names))
    return import_memory(file, columns, out, header_for(file, MadeBy("s"), modality))


def made(path: Path, dtype: Any = "float16", modality: Any = "image", n: int = 57) -> Memory:
    """A memory with ids, items, labels and an encoder."""
    header = MemoryHeader("s", modality, 12, dtype, ENCODER)
    columns = Columns(
        [f"id é {i}" for i in range(n)],
        [f"a picture, {i}" for i in range(n)],
        [str(i % 3) for i in range(n)],
    )
    return write_memory(path, header, columns, [unit_rows(n, 12).astype(dtype)])


def require(name: str) -> None:
    if name in NEEDS_ARROW:
        pytest.importorskip("pyarrow", exc_type=ImportError)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "ibin"])
def test_every_format_gives_back_the_same_bytes_and_ids(
    tmp_path: Path, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(name)
    monkeypatch.setattr("features.exchange.embedding_file.BLOCK_BYTES", 200)  # many blocks
    kind = FORMATS[name]
    if kind.dtype is not None and name != "ann-benchmarks":
        dtype = kind.dtype
    memory = made(tmp_path / "m.h5", dtype)
    out = tmp_path / f"out{kind.suffixes[0]}"
    lost = export_memory(memory, out, format=name, dtype=dtype)
    ids = tmp_path / "out.ids.txt"
    assert ids.exists() == kind.ids_beside
    back = importing(out, tmp_path / "back.h5", ids=ids if ids.exists() else None).memory
    assert back.header.dtype == dtype
    assert back.embeddings.tobytes() == memory.embeddings.tobytes()
    assert list(back.ids) == list(memory.ids)
    assert lost == ([] if kind.keeps else ["labels", "items"])
    if kind.keeps:
        assert list(back.labels or ()) == list(memory.labels or ())
    if name not in ("clip-retrieval",) and kind.keeps:
        assert list(back.items) == list(memory.items)
        assert back.fingerprint == memory.fingerprint


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "ibin"])
def test_the_same_memory_gives_the_same_file(tmp_path: Path, name: str) -> None:
    require(name)
    memory = made(tmp_path / "m.h5")
    for folder in ("a", "b"):
        export_memory(memory, tmp_path / folder / f"out{FORMATS[name].suffixes[0]}", format=name)
    if name == "clip-retrieval":
        files = [{p.name: p.read_bytes() for p in (tmp_path / one).rglob("*.*")} for one in "ab"]
        assert files[0] == files[1]
    else:
        assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_numpy_reads_npy_and_npz(tmp_path: Path) -> None:
    memory = made(tmp_path / "m.h5")
    export_memory(memory, tmp_path / "m.npy")
    export_memory(memory, tmp_path / "m.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), memory.embeddings)
    assert (tmp_path / "m.ids.txt").read_text("utf-8").splitlines() == list(memory.ids)
    with np.load(tmp_path / "m.npz") as arrays:
        np.testing.assert_array_equal(arrays["embeddings"], memory.embeddings)
        for name in ("ids", "items", "labels"):
            assert arrays[name].tolist() == list(getattr(memory, name))


def test_safetensors_reads_what_is_exported(tmp_path: Path) -> None:
    from safetensors import safe_open

    memory = made(tmp_path / "m.h5")
    export_memory(memory, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "np") as file:
        np.testing.assert_array_equal(file.get_tensor("embeddings"), memory.embeddings)
        about = file.metadata()
    assert (about["space"], about["modality"]) == ("s", "image")
    assert (json.loads(about["encoder"]), about["fingerprint"]) == (ENCODER, memory.fingerprint)


def test_arrow_reads_what_is_exported(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    memory = made(tmp_path / "m.h5", "float32")
    export_memory(memory, tmp_path / "m.parquet")
    table = parquet.read_table(tmp_path / "m.parquet")
    assert table.column_names == ["id", "item", "label", "embedding"]
    assert table["id"].to_pylist() == list(memory.ids)
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist()), memory.embeddings)
    assert table.schema.metadata[b"space"] == b"s"


def test_clip_retrieval_folders_have_numbered_shards_with_as_many_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    for modality, kind, column in (
        ("image", "img_emb", "image_path"),
        ("text", "text_emb", "caption"),
    ):
        memory = made(tmp_path / f"{kind}.h5", modality=modality)
        out = tmp_path / f"folder {kind}"
        export_memory(memory, out, shard_rows=5)
        assert sorted(one.name for one in (out / kind).iterdir())[-1] == f"{kind}_11.npy"
        shard = np.load(out / kind / f"{kind}_03.npy")
        table = parquet.read_table(out / "metadata" / "metadata_03.parquet")
        np.testing.assert_array_equal(shard, memory.embeddings[15:20])
        assert table["id"].to_pylist() == memory.ids[15:20]
        assert table[column].to_pylist() == memory.items[15:20]
        back = importing(out, tmp_path / f"{kind} back.h5", modality).memory
        assert back.embeddings.tobytes() == memory.embeddings.tobytes()
        if modality == "text":
            assert back.fingerprint == memory.fingerprint


def test_only_folders_of_clip_retrieval_are_replaced(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    memory, out = made(tmp_path / "m.h5"), tmp_path / "folder"
    export_memory(memory, out, shard_rows=5)
    with pytest.raises(UserError, match="folder exists: pass --overwrite"):
        export_memory(memory, out)
    export_memory(memory, out, overwrite=True)
    assert [one.name for one in (out / "img_emb").iterdir()] == ["img_emb_0.npy"]
    (out / "mine.txt").write_text("dear")
    with pytest.raises(UserError, match=r"also holds mine\.txt"):
        export_memory(memory, out, overwrite=True)
    assert (out / "mine.txt").read_text() == "dear"


def test_ann_benchmarks_with_queries_has_the_exact_neighbours(tmp_path: Path) -> None:
    memory = made(tmp_path / "m.h5", "float32")
    queries = made(tmp_path / "q.h5", "float32", "text", n=5)
    export_memory(memory, tmp_path / "m.hdf5", queries=queries, neighbors=10)
    with h5py.File(tmp_path / "m.hdf5") as file:
        assert file.attrs["distance"] == "angular"
        assert {name: one.shape for name, one in file.items() if isinstance(one, h5py.Dataset)} == {
            "train": (57, 12), "test": (5, 12), "neighbors": (5, 10), "distances": (5, 10),
        }  # fmt: skip
        train, test = file["train"][...], file["test"][...]
        np.testing.assert_array_equal(train, memory.embeddings)
        rows, distances = file["neighbors"][...], file["distances"][...]
    np.testing.assert_array_equal(rows, np.argsort(-(test @ train.T), axis=1)[:, :10])
    np.testing.assert_allclose(distances, np.sort(1 - test @ train.T)[:, :10], atol=1e-6)
    read = read_neighbors(tmp_path / "m.hdf5")
    np.testing.assert_array_equal(read.rows, rows)
    export_memory(memory, tmp_path / "m.ibin", queries=queries, neighbors=10)
    np.testing.assert_array_equal(read_neighbors(tmp_path / "m.ibin").rows, rows)
    tested = importing(tmp_path / "m.hdf5", tmp_path / "t.h5", key="test").memory
    np.testing.assert_array_equal(tested.embeddings, queries.embeddings)
    assert list(tested.ids) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("m.xyz", {}, r"m\.xyz is no format that can be written: use one of npy, npz"),
        ("m.npy", {"format": "tar"}, "tar is no format"),
        ("m.ibin", {}, r"m\.ibin holds neighbours of queries: name their memory with --queries"),
        ("m.npy", {"queries": True}, "npy has no place for neighbours .* ann-benchmarks, ibin"),
        ("m.fbin", {"dtype": "float16"}, "fbin holds float32, not float16"),
        ("m.npy", {"dtype": "int8"}, "float16 or float32, not 'int8'"),
        ("there.npy", {}, r"there\.npy exists: pass --overwrite"),
        ("ids.npy", {}, r"ids\.ids\.txt exists: pass --overwrite"),
        ("folder.npy", {}, r"folder\.npy is a folder"),
        ("m.h5", {"overwrite": True}, r"m\.h5 is the memory itself"),
    ],
)
def test_what_cannot_be_exported_is_said(
    tmp_path: Path, out: str, options: dict[str, Any], message: str
) -> None:
    memory = made(tmp_path / "m.h5")
    for name in ("there.npy", "ids.ids.txt"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "folder.npy").mkdir()
    if options.get("queries"):
        options = {"queries": memory}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        export_memory(memory, tmp_path / out, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_local_embeddings_stay_behind_with_a_word(tmp_path: Path) -> None:
    header = MemoryHeader("s", "image", 4, local_length=2)
    rows = unit_rows(3, 4)
    local = [(np.stack([rows, rows], axis=1), np.ones((3, 2), dtype=np.uint8))]
    memory = write_memory(tmp_path / "m.h5", header, Columns(["a", "b", "c"]), [rows], local=local)
    assert export_memory(memory, tmp_path / "m.npz") == ["local embeddings"]


def test_ids_with_line_breaks_or_modalities_without_a_folder_need_another_format(
    tmp_path: Path,
) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    rows = unit_rows(2, 4)
    memory = save_memory(tmp_path / "m.h5", rows, ["a\nb", "c"], space="s", modality="audio")
    with pytest.raises(UserError, match=r"line breaks and .* holds one a line: export a \.parquet"):
        export_memory(memory, tmp_path / "m.npy")
    with pytest.raises(UserError, match="holds audio and clip-retrieval's folders hold images"):
        export_memory(memory, tmp_path / "folder")
    for name in ("m.parquet", "m.npz", "m.safetensors"):
        export_memory(memory, tmp_path / name)
        back = importing(tmp_path / name, tmp_path / f"{name}.h5", "audio").memory
        assert list(back.ids) == ["a\nb", "c"]
    assert format_of(Path("somewhere/new")) == "clip-retrieval"


@pytest.mark.parametrize("suffix", [".npy", ".fbin"])
def test_an_export_goes_on_where_a_process_was_killed(tmp_path: Path, suffix: str) -> None:
    memory, out = made(tmp_path / "m.h5", "float32"), tmp_path / f"x{suffix}"
    ids = tmp_path / "x.ids.txt"
    ids.write_text("ids of something else\n")
    with pytest.raises(UserError, match=r"x\.ids\.txt exists: pass --overwrite"):
        export_memory(memory, out)
    ids.write_text("".join(f"{one}\n" for one in memory.ids))
    export_memory(memory, out)
    assert out.exists()
