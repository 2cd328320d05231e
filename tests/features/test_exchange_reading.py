"""Files of other tools as they are found: which are read how, and which are refused why."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from features.errors import UserError
from features.exchange.choose import ColumnNames, choose_columns
from features.exchange.importing import import_memory
from features.exchange.made_by import MadeBy, described_by, header_for, loaded_encoder
from features.exchange.opening import open_embeddings
from features.extraction.partial import read_failures
from features.memories.memory import Columns, Memory, MemoryHeader
from tests.features.helpers import StopAfter, saved, unit_rows
from tests.features.test_exchange import importing

ROWS = unit_rows(9, 4)
NAMES = [f"n{i}" for i in range(9)]


def fbin(rows: Any, n: int, d: int) -> bytes:
    return np.array([n, d], dtype="<u4").tobytes() + np.asarray(rows, "<f4").tobytes()


def clip_folder(folder: Path, sizes: dict[str, int], **columns: Any) -> Path:
    """A folder as clip-retrieval writes it; sizes: rows of each shard by its number."""
    pytest.importorskip("pyarrow", exc_type=ImportError)
    import pyarrow as pa
    from pyarrow import parquet

    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    start = 0
    for number, size in sizes.items():
        part = slice(start, start + size)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", ROWS[part].astype(np.float16))
        table = {name: values[part] for name, values in columns.items()}
        parquet.write_table(pa.table(table), folder / "metadata" / f"metadata_{number}.parquet")
        start += size
    return folder


def test_clip_retrieval_shards_are_joined_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "f", {"0": 2, "2": 3, "10": 4}, image_path=NAMES, url=NAMES)
    done = importing(folder, tmp_path / "m.h5")
    assert list(done.memory.ids) == NAMES
    assert done.memory.header.dtype == "float16"
    assert done.memory.embeddings.tobytes() == ROWS.astype(np.float16).tobytes()
    assert (done.normalised, done.failures) == (0, [])


def test_clip_retrieval_texts_keep_their_captions(tmp_path: Path) -> None:
    captions = [None, "a dog", "a dog", *NAMES[3:]]
    folder = clip_folder(tmp_path / "f", {"00": 9}, key=list(range(9)), caption=captions)
    (folder / "img_emb").rename(folder / "text_emb")
    (folder / "text_emb" / "img_emb_00.npy").rename(folder / "text_emb" / "text_emb_00.npy")
    memory = importing(folder, tmp_path / "m.h5", "text").memory
    assert list(memory.ids) == [str(i) for i in range(9)]
    assert list(memory.items) == ["", "a dog", "a dog", *NAMES[3:]]
    with pytest.raises(UserError, match="holds img_emb and text_emb, not audio"):
        importing(folder, tmp_path / "a.h5", "audio")
    assert len(importing(folder, tmp_path / "a.h5", "audio", key="text_emb").memory) == 9


def test_clip_retrieval_folders_that_are_incomplete_are_refused(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "f", {"0": 4, "1": 5}, image_path=NAMES)
    out = tmp_path / "m.h5"
    np.save(folder / "img_emb" / "img_emb_1.npy", ROWS[:3])
    with pytest.raises(UserError, match=r"metadata_1\.parquet has 5 rows but .*_1\.npy has 3"):
        importing(folder, out)
    np.save(folder / "img_emb" / "img_emb_1.npy", ROWS[:5, :3])
    with pytest.raises(UserError, match=r"rows of 3 numbers but .* has 4"):
        importing(folder, out)
    (folder / "img_emb" / "img_emb_1.npy").unlink()
    with pytest.raises(UserError, match="1 shards of embeddings and 2 of metadata, number 1"):
        importing(folder, out)
    (folder / "img_emb" / "img_emb_0.npy").unlink()
    with pytest.raises(UserError, match=r"has no img_emb/img_emb_0\.npy .*img_emb, metadata"):
        importing(folder, out)
    assert not out.exists()


def test_parquet_vectors_of_every_kind_are_read(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    # Arrow itself cannot read fixed-size lists of which some are null.
    for number, kind in enumerate((pa.list_(pa.float32()), pa.large_list(pa.float32()))):
        vectors = pa.array([None if i == 2 else row for i, row in enumerate(ROWS.tolist())], kind)
        table = pa.table({"name": NAMES, "class": [*"aabbccdd", None], "vector": vectors})
        path = tmp_path / f"{number}.parquet"
        parquet.write_table(table, path, row_group_size=4)
        done = importing(path, tmp_path / f"{number}.h5", id_column="name", label_column="class")
        np.testing.assert_array_equal(done.memory.embeddings, np.delete(ROWS, 2, axis=0))
        assert [(one.id, one.reason) for one in done.failures] == [("n2", "the row has no vector")]
        assert list(done.memory.ids) == [name for name in NAMES if name != "n2"]
        assert done.memory.labels is None  # the last row has none
    fixed = pa.array(ROWS.tolist(), pa.list_(pa.float64(), 4))
    parquet.write_table(pa.table({"label": NAMES, "vector": fixed}), tmp_path / "f.parquet")
    memory = importing(tmp_path / "f.parquet", tmp_path / "f.h5").memory
    np.testing.assert_array_equal(memory.embeddings, ROWS)
    assert list(memory.labels or ()) == NAMES


def test_parquet_without_one_column_of_equal_vectors_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    path, out = tmp_path / "p.parquet", tmp_path / "m.h5"
    rows = ROWS.tolist()
    parquet.write_table(pa.table({"a": rows, "b": rows, "id": NAMES}), path)
    with pytest.raises(UserError, match=r"2 columns of vectors \(a, b\): name one with --key"):
        importing(path, out)
    assert len(importing(path, out, key="b").memory) == 9
    with pytest.raises(UserError, match=r"no column 'id' of vectors \(lists of floats\)"):
        importing(path, tmp_path / "n.h5", key="id")
    parquet.write_table(pa.table({"a": [*rows[:5], [1.0], *rows[6:]], "id": NAMES}), path)
    with pytest.raises(UserError, match=r"row 6 of .* has a vector of 1 numbers, the first has 4"):
        importing(path, tmp_path / "n.h5")
    # The vectors of one name, then the ids; both are refused only where they are asked for.
    twice = pa.Table.from_arrays(
        [pa.array(rows), pa.array(rows), pa.array(NAMES)], ["a", "a", "id"]
    )
    parquet.write_table(twice, path)
    with pytest.raises(UserError, match="has 2 columns called 'a': give them names of their own"):
        importing(path, tmp_path / "n.h5", key="a")
    names = pa.array(NAMES)
    parquet.write_table(pa.Table.from_arrays([pa.array(rows), names, names], ["a", "b", "b"]), path)
    assert len(importing(path, tmp_path / "b.h5").memory) == 9
    with pytest.raises(UserError, match="has 2 columns called 'b': give them names of their own"):
        importing(path, tmp_path / "n.h5", id_column="b")
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        importing(path, tmp_path / "n.h5")


def test_npz_and_safetensors_take_a_key_where_there_are_several(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=ROWS, y=ROWS[::-1], names=np.array(NAMES))
    with pytest.raises(UserError, match=r"2 arrays of rows .* --key, .* x \(9, 4\), y \(9, 4\)"):
        importing(tmp_path / "a.npz", tmp_path / "m.h5")
    memory = importing(tmp_path / "a.npz", tmp_path / "m.h5", key="y", id_column="names").memory
    np.testing.assert_array_equal(memory.embeddings, ROWS[::-1])
    assert list(memory.ids) == NAMES
    tensors = {"x": torch.from_numpy(ROWS), "b": torch.from_numpy(ROWS).bfloat16()}
    save_file(tensors, tmp_path / "a.safetensors")
    memory = importing(tmp_path / "a.safetensors", tmp_path / "x.h5", key="x").memory
    np.testing.assert_array_equal(memory.embeddings, ROWS)
    memory = importing(tmp_path / "a.safetensors", tmp_path / "b.h5", key="b").memory
    np.testing.assert_array_equal(memory.embeddings, tensors["b"].float().numpy())


def test_hdf5_of_another_distance_is_read_with_a_word(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["distance"] = "euclidean"
        file["train"] = 7 * ROWS
    opened = open_embeddings(tmp_path / "a.hdf5", "image")
    assert "made for the distance 'euclidean'" in opened.notes[0]
    done = importing(tmp_path / "a.hdf5", tmp_path / "m.h5")
    np.testing.assert_allclose(done.memory.embeddings, ROWS, atol=1e-6)
    assert done.normalised == 9
    assert (done.lowest, done.highest) == pytest.approx((7, 7))
    with pytest.raises(UserError, match="no dataset 'test': name one of train"):
        open_embeddings(tmp_path / "a.hdf5", "image", key="test")
    with pytest.raises(UserError, match=r"m\.h5 is a memory already"):
        open_embeddings(tmp_path / "m.h5", "image")


@pytest.mark.parametrize(
    ("name", "content", "key", "message"),
    [
        ("a.npy", np.arange(6).reshape(2, 3), None, "numbers of type int64: embeddings are float"),
        ("a.npy", np.ones(3), None, r"shape \(3,\): embeddings are rows"),
        ("a.npy", np.ones((0, 3)), None, r"shape \(0, 3\)"),
        ("a.npy", np.ones((2, 3, 4)), None, r"shape \(2, 3, 4\)"),
        ("a.npy", np.asfortranarray(ROWS), None, "column by column .*ascontiguousarray"),
        ("a.npy", np.array([[None]]), None, "holds Python objects, which could run code"),
        ("a.npy", ROWS, "x", "holds one array, --key x does not apply"),
        ("a.npy", b"\x93NUMPY", None, "not a readable array"),
        ("a.npy", b"", None, "not a readable array"),
        ("a.npz", b"PK", None, r"not a readable \.npz file"),
        ("a.safetensors", b"12345678", None, "not a readable safetensors file"),
        ("a.safetensors", (9).to_bytes(8, "little") + b'{"x": 12}', None, "not a readable safe"),
        ("a.hdf5", b"no", None, "not a readable HDF5 file"),
        ("a.parquet", None, None, r"a\.parquet does not exist"),
        ("a.fbin", fbin(ROWS, 9, 5), None, "152 bytes but the 9 vectors of 5 float32 .* need 188"),
        ("a.fbin", b"abc", None, "3 bytes but the 0 vectors"),
        ("a.ibin", b"", None, "holds the numbers of neighbours, not embeddings"),
        ("a.u8bin", b"", None, "holds bytes, not embeddings"),
        ("a.pt", b"", None, "may hold Python objects"),
        ("nothing", None, None, "embeddings .*nothing does not exist"),
        ("a.bin", b"", None, r"of no kind that can be imported: give a \.npy"),
    ],
)
def test_files_without_embeddings_are_refused(
    tmp_path: Path, name: str, content: Any, key: str | None, message: str
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", exc_type=ImportError)
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(UserError, match=message):
        open_embeddings(path, "image", key=key)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-1])
    with pytest.raises(UserError, match="143 bytes of rows but its 9 rows of 4 float32 need 144"):
        open_embeddings(tmp_path / "a.npy", "image")
    (tmp_path / "a.npy").write_bytes(content)
    opened = open_embeddings(tmp_path / "a.npy", "image")
    (tmp_path / "a.npy").write_bytes(content[:-17])  # while it is read
    with pytest.raises(UserError, match="ends after"):
        list(opened.blocks())


def test_a_damaged_archive_is_refused_while_it_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=unit_rows(400, 8))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[5000:5100] = bytes(100)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz is damaged"):
        importing(tmp_path / "a.npz", tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_an_import_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.exchange.embedding_file.BLOCK_BYTES", 16)
    np.save(tmp_path / "a.npy", ROWS)
    file = open_embeddings(tmp_path / "a.npy", "image")
    header, columns = header_for(file, MadeBy("s"), "image"), Columns(NAMES)
    with pytest.raises(KeyboardInterrupt):
        import_memory(file, columns, tmp_path / "m.h5", header, progress=StopAfter(3))
    assert [one.name for one in tmp_path.iterdir()] == ["a.npy"]
    whole = StopAfter(99)
    import_memory(file, columns, tmp_path / "m.h5", header, progress=whole)
    assert whole.told == [0, *[1] * 9]


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "parquet"])
def test_ids_come_from_a_file_beside_the_embeddings(tmp_path: Path, suffix: str) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    path = tmp_path / f"ids.{suffix}"
    if suffix == "txt":
        path.write_text("\ufeff" + "\r\n".join(NAMES), encoding="utf-8")
    elif suffix == "csv":
        path.write_text("id,number,kind\n" + "".join(f"{n},1,k\n" for n in NAMES))
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps({"id": n, "kind": "k"}) + "\n" for n in NAMES))
    else:
        pa = pytest.importorskip("pyarrow", exc_type=ImportError)
        from pyarrow import parquet

        parquet.write_table(pa.table({"id": NAMES, "kind": ["k"] * 9}), path)
    options = {} if suffix == "txt" else {"label_column": "kind"}
    memory = importing(tmp_path / "a.npy", tmp_path / "m.h5", ids=path, **options).memory
    assert list(memory.ids) == NAMES
    assert list(memory.labels or ()) == ([] if suffix == "txt" else ["k"] * 9)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("id\na\n", {}, r"ids\.csv has 1 rows but .*a\.npy has 3 embeddings"),
        ("id\na\nb\na\n", {}, r"the id 'a' is that of rows 1 and 3 of .*a\.npy .* --id-column"),
        ("id,x\na,\n,\nb,\n", {}, "row 2 of .* has no id in 'id'"),
        ("id\na\nb\nc\n", {"id_column": "name"}, "no column 'name': the columns of .* are id"),
        ("id\na\nb\nc\n", {"label_column": "name"}, "no column 'name'"),
    ],
)
def test_ids_that_do_not_name_the_rows_are_refused(
    tmp_path: Path, table: str, options: dict[str, str], message: str
) -> None:
    np.save(tmp_path / "a.npy", ROWS[:3])
    (tmp_path / "ids.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        importing(tmp_path / "a.npy", tmp_path / "m.h5", ids=tmp_path / "ids.csv", **options)
    assert not (tmp_path / "m.h5").exists()


def test_without_ids_rows_are_numbered_and_the_user_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ROWS, odd=np.arange(9))
    file = open_embeddings(tmp_path / "a.npz", "image")
    columns, notes = choose_columns(file, "image", ColumnNames())
    assert list(columns.ids) == [str(i) for i in range(9)]
    assert "has no ids (--id-column names one of odd): the rows' numbers" in notes[0]
    np.savez(tmp_path / "b.npz", x=ROWS)  # a table without columns
    _, notes = choose_columns(open_embeddings(tmp_path / "b.npz", "image"), "image", ColumnNames())
    assert notes == [f"{tmp_path / 'b.npz'} has no ids: the rows' numbers, from 0, are the ids"]
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.raises(UserError, match="the embeddings have no columns, give a table with --ids"):
        importing(tmp_path / "a.npy", tmp_path / "m.h5", id_column="x")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_only_rows_that_are_not_of_unit_norm_are_changed(tmp_path: Path, dtype: str) -> None:
    rows = unit_rows(300, 16).astype(dtype)
    rows[::3] *= np.linspace(0.1, 40, 100)[:, None].astype(dtype)
    np.save(tmp_path / "a.npy", rows)
    done = importing(tmp_path / "a.npy", tmp_path / "m.h5")
    found = np.asarray(done.memory.embeddings)
    expected = rows.astype(found.dtype)
    np.testing.assert_array_equal(found[1::3], expected[1::3])
    np.testing.assert_array_equal(found[2::3], expected[2::3])
    wide = rows[::3].astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    step = 2.0**-11 if dtype == "float16" else 2e-7
    np.testing.assert_allclose(found[::3], wide, rtol=step, atol=step)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert done.normalised == (np.abs(norms - 1) > 5e-3).sum() >= 99
    assert (done.lowest, done.highest) == pytest.approx((norms.min(), norms.max()), rel=1e-5)
    assert done.memory.header.extra == {
        "imported_from": "a.npy",
        "normalised": done.normalised,
        "norms": [done.lowest, done.highest],
    }
    done.memory.verify()


def test_rows_without_a_direction_are_left_out_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.exchange.embedding_file.BLOCK_BYTES", 64)
    rows = 2 * unit_rows(40, 4)
    rows[7], rows[20, 1], rows[39, 0] = 0, np.nan, np.inf
    np.save(tmp_path / "a.npy", rows)
    (tmp_path / "ids.csv").write_text(
        "id,label,item\n" + "".join(f"id{i},l{i},item {i}\n" for i in range(40))
    )
    done = importing(tmp_path / "a.npy", tmp_path / "m.h5", ids=tmp_path / "ids.csv")
    kept = [i for i in range(40) if i not in (7, 20, 39)]
    assert list(done.memory.ids) == [f"id{i}" for i in kept]
    assert list(done.memory.items) == [f"item {i}" for i in kept]
    assert list(done.memory.labels or ()) == [f"l{i}" for i in kept]
    np.testing.assert_allclose(done.memory.embeddings, rows[kept] / 2, atol=1e-6)
    failures = read_failures(tmp_path / "m.failures.jsonl")
    assert [asdict(one) for one in failures] == [
        {"id": "id7", "item": "item 7", "reason": "the embedding has zero norm"},
        {"id": "id20", "item": "item 20", "reason": "the embedding has NaN or infinite values"},
        {"id": "id39", "item": "item 39", "reason": "the embedding has NaN or infinite values"},
    ]
    assert (done.normalised, done.lowest) == (37, pytest.approx(2))
    assert done.memory.header.extra["normalised"] == 37  # of those that are kept
    np.save(tmp_path / "zero.npy", np.zeros((2, 4)))
    with pytest.raises(UserError, match=r"none of the 2 rows of .* the first, 0: .* zero norm"):
        importing(tmp_path / "zero.npy", tmp_path / "z.h5")


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        (np.float16, [6e-8, 5e-5, 1, 3e4]),
        (np.float32, [1.4e-45, 1e-25, 1e-15, 1, 1e18, 1e25, 2e38]),
        (np.float64, [5e-324, 1e-200, 1, 1e50, 1e200, 1e308]),
    ],
)
def test_rows_of_any_finite_size_are_normalised(
    tmp_path: Path, dtype: Any, sizes: list[float]
) -> None:
    rows = np.array([[1, -1, 1, 0]]) * np.array(sizes)[:, None]
    np.save(tmp_path / "a.npy", rows.astype(dtype))
    done = importing(tmp_path / "a.npy", tmp_path / "m.h5")
    assert (done.failures, done.normalised) == ([], len(sizes))
    expected = np.tile(np.array([1, -1, 1, 0]) / 3**0.5, (len(sizes), 1))
    np.testing.assert_allclose(done.memory.embeddings, expected, rtol=1e-3)
    if dtype == np.float64:
        assert (done.lowest, done.highest) == (pytest.approx(1e-323), pytest.approx(3**0.5 * 1e308))
    done.memory.verify()


def test_a_later_import_without_failures_removes_the_old_list(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / "m.failures.jsonl").write_text("old\n")
    importing(tmp_path / "a.npy", tmp_path / "m.h5")
    assert not (tmp_path / "m.failures.jsonl").exists()


def test_an_output_that_exists_stays_as_it_is(tmp_path: Path) -> None:
    before = saved(tmp_path / "m.h5").fingerprint
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.raises(UserError, match="exists: pass --overwrite"):
        importing(tmp_path / "a.npy", tmp_path / "m.h5")
    assert Memory(tmp_path / "m.h5").fingerprint == before


def test_the_encoder_is_recorded_as_far_as_it_is_known(tmp_path: Path, tiny_encoder: Any) -> None:
    spec = tiny_encoder.description.spec
    made_by = loaded_encoder(spec, None, "image", device="cpu")
    np.save(tmp_path / "a.npy", unit_rows(3, 16))
    np.save(tmp_path / "b.npy", ROWS)
    header = header_for(open_embeddings(tmp_path / "a.npy", "image"), made_by, "image")
    unknown = {"precision": "", "versions": {}}  # those of the embeddings, not of this machine
    assert header.encoder == {**tiny_encoder.description.as_dict(), **unknown}
    assert header.space == tiny_encoder.space.name
    narrow = open_embeddings(tmp_path / "b.npy", "image")
    with pytest.raises(UserError, match=r"rows of 4 numbers but the encoder .* 16 dimensions"):
        header_for(narrow, made_by, "image")
    with pytest.raises(UserError, match="--space is clip but the encoder"):
        loaded_encoder(spec, "clip", "image", device="cpu")
    with pytest.raises(UserError, match="does not embed audio"):
        loaded_encoder(spec, None, "audio", device="cpu")
    with pytest.raises(UserError, match="float16 or float32, not 'int8'"):
        header_for(narrow, MadeBy("s"), "image", dtype="int8")
    with pytest.raises(UserError, match=r"rows of 4 numbers but the space s has 5 dimensions"):
        import_memory(narrow, Columns(NAMES), tmp_path / "m.h5", MemoryHeader("s", "image", 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        pytest.param("[" * 100_000, "is not JSON", id="deep"),
        ("[]", "does not describe an encoder"),
        ("{}", "at least its name"),
        (
            '{"name": "e", "preprocessing": ["resize"]}',
            r'preprocessing as \["resize"\] but .* object',
        ),
        ('{"name": "e", "spec": 7}', "the encoder's spec as 7 but it is a string"),
        ('{"name": "e", "weights": {"sha": 1}}', "weights as .* but it is a string"),
        ('{"name": "e", "precision": 16}', "precision as 16 but it is a string"),
        ('{"name": "e", "versions": "2.0"}', "versions as .* but it is an object"),
        ('{"name": "e", "modalities": "text"}', "modalities as .* but it is a list of strings"),
        ('{"name": "e", "modalities": [["text"]]}', r"is not a modality .*: use one of"),
    ],
)
def test_a_description_says_at_least_a_name_and_its_fields_are_of_their_types(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "e.json"
    path.write_text('{"name": "my model", "weights": "abc", "spec": null, "mine": [1]}')
    known = {"name": "my model", "weights": "abc", "mine": [1]}
    assert described_by(path, "clip").description == known
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        described_by(path, "clip")
