"""Small files that claim what they do not hold, or point to other files: all are refused."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from features.errors import UserError
from features.exchange.arrays import open_npz
from features.exchange.opening import open_embeddings
from tests.features.helpers import unit_rows
from tests.features.test_exchange import importing

ROWS = unit_rows(9, 4)
NAMES = [f"n{i}" for i in range(9)]
MANY = 3_000_000_000


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """The beginning of a .npy file."""
    file = io.BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)  # type: ignore[no-untyped-call, unused-ignore]
    return file.getvalue()


def npz(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def tensors(path: Path, **described: dict[str, Any]) -> Path:
    """A safetensors file of 128 zero bytes."""
    about = json.dumps(described).encode()
    path.write_bytes(len(about).to_bytes(8, "little") + about + bytes(128))
    return path


def refused(path: Path, message: str, **names: Any) -> None:
    """Importing `path` is refused before much memory is taken."""
    out = path.with_name("m.h5")
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        importing(path, out, **names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert not out.exists()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((MANY, 4), "bytes of rows but its 3000000000 rows of 4 float32 need 48000000000"),
        ((2**32, 2**32), "need 73786976294838206464"),
        ((-2, -4), r"shape \(-2, -4\): embeddings are rows"),
    ],
)
def test_arrays_that_claim_more_than_they_hold(
    tmp_path: Path, shape: tuple[int, ...], message: str
) -> None:
    (tmp_path / "a.npy").write_bytes(header(shape) + bytes(64))
    refused(tmp_path / "a.npy", message)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refused(npz(tmp_path / "a.npz", compression, x=header(shape) + bytes(64)), message)


def test_an_archive_that_lies_about_its_members_sizes(tmp_path: Path) -> None:
    content = header((MANY, 1), "<f2") + bytes(64)
    path = npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, x=content)
    lied, place = bytearray(path.read_bytes()), path.read_bytes().index(b"PK\1\2")
    lied[place + 24 : place + 28] = (2**32 - 2).to_bytes(4, "little")  # size when unpacked
    path.write_bytes(lied)
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].file_size == 2**32 - 2
    refused(path, "bytes of rows but its 3000000000 rows")
    refused(npz(path, zipfile.ZIP_LZMA, x=content), "is not compressed as NumPy does it")


def test_a_column_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    rows = header((9, 4)) + ROWS.tobytes()
    path = npz(tmp_path / "a.npz", x=rows, ids=header((9,), "<U500000000") + bytes(64))
    refused(path, "the column ids of .* has 64 bytes but its 9 values of <U500000000 need more")
    (tmp_path / "ids.txt").write_text("\n".join(NAMES))
    assert len(importing(path, tmp_path / "n.h5", ids=tmp_path / "ids.txt").memory) == 9
    refused(
        npz(path, x=rows, ids=header((9,), "|S2") + b"\xff" * 18), "column ids of .* is damaged"
    )
    names = header((9,), "|S9000") + bytes(81_000)
    content = npz(path, x=rows, ids=names).read_bytes()
    path.write_bytes(content.replace(bytes(500), b"x" * 500, 1))
    refused(path, "the column ids of .* is damaged .*CRC")


@pytest.mark.parametrize("wide", [b"\0", b"a\0\0\0"])
def test_a_column_that_would_unpack_to_more_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: bytes
) -> None:
    """Within what deflate can do, a thousand bytes of one: whether of zeros or of text."""
    rows = header((9, 4)) + ROWS.tobytes()
    ids = header((9,), "<U200000") + (wide * 7_200_000)[:7_200_000]
    path = npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, x=rows, ids=ids)
    assert path.stat().st_size < 40_000
    monkeypatch.setattr("features.exchange.arrays.free_bytes", lambda _: 1_000_000)
    refused(path, "9 values of <U200000, 1800072 bytes as text, and 1000000 bytes of memory")


def test_columns_of_every_type_are_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.exchange.embedding_file.BLOCK_BYTES", 16)
    columns: dict[str, Any] = {
        "text": np.array(["", "ü", *NAMES[2:]]), "swapped": np.array(NAMES).astype(">U9"),
        "content": np.array([f"é{n}".encode() for n in range(9)]), "none": np.zeros(9, "<U1"),
        "whole": np.arange(9) * 2**60 // 9, "small": np.arange(9, dtype=np.uint8),
    }  # fmt: skip
    np.savez_compressed(tmp_path / "a.npz", x=ROWS, **columns)
    found = open_npz(tmp_path / "a.npz", None).columns
    assert found is not None
    for name, values in columns.items():
        told = [one.decode() if isinstance(one, bytes) else str(one) for one in values.tolist()]
        assert list(found.read(name)) == told


def test_only_arrays_that_are_chosen_matter(tmp_path: Path) -> None:
    odd = np.array([*NAMES[:-1], None], dtype=object)
    np.savez(
        tmp_path / "a.npz", embeddings=ROWS, ids=odd, turned=np.asfortranarray(ROWS), names=NAMES
    )
    path = tmp_path / "a.npz"
    refused(path, "2 arrays of rows")
    refused(path, "stored column by column", key="turned")
    refused(path, "the column ids of .* Python objects, .*dtype=str.*--ids", key="embeddings")
    done = importing(path, tmp_path / "n.h5", key="embeddings", id_column="names")
    assert list(done.memory.ids) == NAMES
    (tmp_path / "ids.txt").write_text("\n".join(NAMES))
    done = importing(path, tmp_path / "t.h5", key="embeddings", ids=tmp_path / "ids.txt")
    assert list(done.memory.ids) == NAMES
    np.savez(tmp_path / "o.npz", x=np.array([[None, 1], [2, 3]]))
    refused(tmp_path / "o.npz", "holds Python objects, which could run code")


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ([2**32, 2**32], [0, 0]),  # 2**64 values, which int64 cannot count
        ([MANY, 4], [0, 128]),
        ([[2], [4]], [0, 32]),
        ([2.0, 4], [0, 32]),
        ([-2, -4], [0, 32]),
        ([True, 8], [0, 32]),
        (8, [0, 32]),
        ([2, 4], [0.0, 32.0]),
        ([2, 4], [-8, 24]),
        ([2, 4], [128, 160]),
    ],
)
def test_tensors_that_are_not_where_and_what_they_claim(
    tmp_path: Path, shape: Any, offsets: list[Any]
) -> None:
    one = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    refused(tensors(tmp_path / "a.safetensors", x=one), "not a readable safetensors file")
    fitting = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    path = tensors(tmp_path / "b.safetensors", x=fitting)
    assert open_embeddings(path, "image").rows == 2


def test_a_column_of_tensors_that_do_not_fit_together(tmp_path: Path) -> None:
    rows = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    utf8 = {"dtype": "U8", "shape": [8], "data_offsets": [32, 40]}
    for kind, stop in (("I64", 56), ("F64", 56), ("I64", 40)):
        size = (stop - 40) // 8
        offsets = {"dtype": kind, "shape": [size], "data_offsets": [40, stop]}
        described = {"x": rows, "ids.utf8": utf8, "ids.offsets": offsets}
        path = tensors(tmp_path / "a.safetensors", **described)
        refused(path, "the column ids of .* is damaged")


@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": (1000, 4)}, {"chunks": (1000, 4), "compression": "gzip"}],
)
def test_datasets_that_claim_more_than_they_hold(tmp_path: Path, options: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("train", (MANY, 4), "f4", **options)
        if options:
            file["train"][:1000] = 1
    refused(tmp_path / "a.hdf5", "bytes of rows but its 3000000000 rows of 4 float32 need")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file.create_dataset("train", data=np.zeros((5000, 4), "f4") + ROWS[0], **options)
    opened = open_embeddings(tmp_path / "b.hdf5", "image")
    assert sum(len(block) for block in opened.blocks()) == 5000


def test_datasets_of_other_files_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["train"] = ROWS
    (tmp_path / "secret.bin").write_bytes(ROWS.tobytes())
    path = tmp_path / "a.hdf5"
    links: list[Any] = [h5py.ExternalLink("secret.hdf5", "/train"), h5py.SoftLink("/to/train")]
    for link in links:
        with h5py.File(path, "w") as file:
            file["to"] = h5py.ExternalLink("secret.hdf5", "/")
            file["train"] = link
            if link is links[1]:
                np.testing.assert_array_equal(file["train"], ROWS)  # HDF5 itself follows
        refused(path, "'train' of .* is a link or no dataset, and links are not followed")
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((9, 4), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.hdf5"), "train", (9, 4))
        file.create_virtual_dataset("train", layout)
    refused(path, "/train of .* is stored in other files, which are not read")
    with h5py.File(path, "w") as file:
        external = [(str(tmp_path / "secret.bin"), 0, ROWS.nbytes)]
        file.create_dataset("train", (9, 4), "f4", external=external)
    refused(path, "/train of .* is stored in other files, which are not read")


def test_columns_of_other_files_or_damaged_ones_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["utf8"], file["offsets"] = np.frombuffer(b"abcdefghi", np.uint8), np.arange(10)
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["train"] = ROWS
        file["ids"] = h5py.ExternalLink("secret.hdf5", "/")
        labels = file.create_group("labels")
        for part in ("utf8", "offsets"):
            labels[part] = h5py.ExternalLink("secret.hdf5", part)
    done = importing(path, tmp_path / "n.h5")
    assert list(done.memory.ids) == [str(i) for i in range(9)]
    assert done.memory.labels is None
    for text, offsets in (
        (b"abcdefghi", np.arange(10.0)),
        (b"abcdefghi", np.arange(1, 11)),
        (b"abcdefghi", np.array([0, 5, 3, 9])),
        (b"abcdefghi", np.int64(3)),
        (b"abcdefgh\xff", np.arange(10)),
        ("abcdefgé".encode(), np.arange(10)),  # cut within a character
    ):
        with h5py.File(path, "w") as file:
            file["train"] = ROWS
            file["ids/utf8"] = np.frombuffer(text, np.uint8)
            file["ids/offsets"] = offsets
        refused(path, "the column ids of .* is damaged")
    with h5py.File(path, "w") as file:
        file["train"] = ROWS
        file["ids/utf8"] = np.frombuffer(b"abcdefghi", np.uint8)
        file.create_dataset("ids/offsets", (MANY,), "i8")
    refused(path, "the column /ids/offsets of .* is damaged")


def test_a_dataset_whose_content_is_damaged_is_refused_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("train", data=unit_rows(5000, 8), chunks=(500, 8), compression="gzip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    path.write_bytes(content)
    refused(path, "is not a readable HDF5 file")


def test_an_archive_whose_names_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "names.npz"
    np.savez(path, ü=unit_rows(3, 4))
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xff"))
    with pytest.raises(UserError, match=r"is not a readable .npz file .*utf-8"):
        open_embeddings(path, "image")
