"""Files of other tools that `mcr import` takes, and weights that others made."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from safetensors.torch import save

from features.exchange.choose import ColumnNames, choose_columns
from features.exchange.importing import import_memory
from features.exchange.made_by import MadeBy, described_by, header_for
from features.exchange.neighbors import read_neighbors
from features.exchange.opening import open_embeddings
from features.exchange.text_tables import open_columns
from features.memories.norms import row_norms
from features.tensors import read_state
from tests.features.helpers import unit_rows
from tests.fuzz.target import Target, nothing

ROWS = unit_rows(3, 4)
NAMES = ["a", "é", "c"]


def opened(path: Path) -> None:
    """All that `mcr import` reads of a file, without writing a memory."""
    file = open_embeddings(path, "image")
    choose_columns(file, "image", ColumnNames())
    for block in file.blocks():
        row_norms(block)
    list(file.absent())


def imported(path: Path) -> None:
    """`mcr import`; what it makes must be whole."""
    out = path.with_name("m.h5")
    out.unlink(missing_ok=True)
    file = open_embeddings(path, "image")
    columns, _ = choose_columns(file, "image", ColumnNames())
    header = header_for(file, MadeBy("s"), "image")
    memory = import_memory(file, columns, out, header, overwrite=True).memory
    memory.verify()
    assert len(list(memory.ids)) == len(memory)


def _folder(path: Path) -> None:
    opened(path.parents[1])


def _columns(path: Path) -> None:
    table = open_columns(path)
    for name in table.names:
        list(table.read(name))


def npy(array: Any) -> bytes:
    """An .npy file."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(**arrays: Any) -> bytes:
    """An .npz file."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def parquet(**columns: Any) -> bytes:
    """A Parquet file."""
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def hdf5(**datasets: Any) -> bytes:
    """An HDF5 file."""
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for name, data in datasets.items():
            file[name.replace("__", "/")] = data
    return out.getvalue()


def _npys(_: Path) -> Iterable[bytes]:
    return [npy(ROWS), npy(ROWS.astype(np.float16)), npy(2 * ROWS.astype(np.float64))]


def _npzs(_: Path) -> Iterable[bytes]:
    return [
        npz(embeddings=ROWS, ids=np.array(NAMES), n=np.arange(3), b=np.array([b"x", b"y", b"z"])),
        npz(x=ROWS),
    ]


def _tensors(_: Path) -> Iterable[bytes]:
    utf8 = torch.frombuffer(bytearray(b"abc"), dtype=torch.uint8)
    columns = {"ids.utf8": utf8, "ids.offsets": torch.arange(4)}
    rows = torch.from_numpy(ROWS)
    return [save({"x": rows, **columns}), save({"x": rows.bfloat16()}, {"space": "s"})]


def _tables(_: Path) -> Iterable[bytes]:
    vectors = pyarrow.array(ROWS.tolist(), pyarrow.list_(pyarrow.float32()))
    absent = pyarrow.array([[1.0, 0.0], None], pyarrow.list_(pyarrow.float64()))
    return [
        parquet(embedding=vectors, id=NAMES, n=[1, 2, None]),
        parquet(v=absent, id=["a", "b"]),
    ]


def _hdf5s(_: Path) -> Iterable[bytes]:
    text = np.frombuffer(b"abc", np.uint8)
    return [
        hdf5(train=ROWS, ids__utf8=text, ids__offsets=np.arange(4)),
        hdf5(train=ROWS, neighbors=np.arange(6).reshape(3, 2), distances=np.zeros((3, 2))),
    ]


def _neighbours(_: Path) -> Iterable[bytes]:
    return [hdf5(neighbors=np.arange(6).reshape(3, 2), distances=np.zeros((3, 2)))]


def _metadata(folder: Path) -> None:
    (folder / "metadata").mkdir(exist_ok=True)
    (folder / "metadata" / "metadata_0.parquet").write_bytes(parquet(image_path=NAMES))


def _shard(folder: Path) -> None:
    (folder / "img_emb").mkdir(exist_ok=True)
    (folder / "img_emb" / "img_emb_0.npy").write_bytes(npy(ROWS))


def _pickles(_: Path) -> Iterable[bytes]:
    made = []
    for content in ({"state_dict": {"a": torch.ones(2, 2)}, "epoch": 3}, {"b": torch.zeros(3)}):
        for archive in (True, False):
            out = io.BytesIO()
            torch.save(content, out, _use_new_zipfile_serialization=archive)
            made.append(out.getvalue())
    return made


def _one(content: bytes) -> Any:
    return lambda _: [content]


_FBIN = np.array([3, 4], "<u4").tobytes() + ROWS.astype("<f4").tobytes()
_IBIN = np.array([3, 2], "<u4").tobytes() + np.arange(6, dtype="<i4").tobytes()

TARGETS = (
    Target("import-npy", "a.npy", opened, _npys, form="npy", weight=3),
    Target("import-npz", "a.npz", opened, _npzs, form="archive", weight=2),
    Target("import-safetensors", "a.safetensors", opened, _tensors, form="safetensors", weight=3),
    Target("import-parquet", "a.parquet", opened, _tables, weight=2),
    Target("import-hdf5", "a.hdf5", opened, _hdf5s, form="hdf5", weight=2),
    Target("import-fbin", "a.fbin", opened, _one(_FBIN)),
    Target(
        "import-clip-retrieval", "img_emb/img_emb_0.npy", _folder, _npys, _metadata, "npy",
    ),
    Target(
        "import-clip-retrieval-metadata", "metadata/metadata_0.parquet", _folder,
        _one(parquet(image_path=NAMES, caption=["x", "y", "z"])), _shard,
    ),
    Target("import-whole", "a.npz", imported, _npzs, form="archive", weight=0.3),
    Target("import-ids-lines", "ids.txt", _columns, _one("a\né\nc\n".encode())),
    Target("import-ids-parquet", "ids.parquet", _columns, _one(parquet(id=NAMES, n=[1, 2, None]))),
    Target(
        "import-encoder-json", "e.json", lambda path: described_by(path, "s"),
        _one(b'{"name": "e", "spec": "s", "weights": "w", "modalities": ["image"],'
             b' "preprocessing": {"image": {"size": 224}}, "versions": {"torch": "2"}}'),
        form="json",
    ),
    Target("neighbours-ibin", "n.ibin", read_neighbors, _one(_IBIN)),
    Target("neighbours-hdf5", "n.hdf5", read_neighbors, _neighbours, form="hdf5"),
    Target("weights-pt", "w.pt", read_state, _pickles, nothing, "bytes", weight=2),
    Target("weights-safetensors", "w.safetensors", read_state, _tensors, form="safetensors"),
)  # fmt: skip
