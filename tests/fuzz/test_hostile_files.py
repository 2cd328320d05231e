"""Files made to harm: code in pickles, claims of terabytes, ways to other files, endless depth.

Each is refused with one sentence, whichever reader meets it, and nothing is run or read elsewhere.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import xxhash
from safetensors.torch import save

from features.errors import UserError
from features.exchange.choose import ColumnNames, choose_columns
from features.exchange.importing import import_memory
from features.exchange.made_by import MadeBy, header_for
from features.exchange.opening import open_embeddings
from features.memories.memory import Memory
from tests.fuzz.hdf5_files import edited, summed, with_table
from tests.fuzz.readers import every_target, target_named
from tests.fuzz.readers.clouds import gltf
from tests.fuzz.readers.exchange import ROWS, npy, npz, parquet
from tests.fuzz.target import Target
from tests.fuzz.watching import Watched

_MARKER = Path(tempfile.gettempdir()) / f"ran-{os.getpid()}"
_DEEP = 100_000


class _Evil:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {_MARKER}",)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _refusal(name: str, content: bytes, folder: Path) -> str:
    """What a reader says of a file."""
    target = target_named(name)
    said: list[str] = []

    def read(path: Path) -> None:
        try:
            target.read(path)
        except target.allowed as error:
            said.append(str(error))

    watched = Watched(
        Target(name, target.file, read, target.seeds, target.beside, allowed=()), folder
    )
    watched(content)
    assert not _MARKER.exists(), "it ran what was in the file"
    assert len(said) == 1, "it was not refused"
    return said[0]


def _torch(content: object, *, archive: bool) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=archive)
    return out.getvalue()


def _objects() -> bytes:
    return npy(np.array([[_Evil(), 1.0]], dtype=object))


_EVIL: dict[str, Callable[[], bytes]] = {
    "pickle": lambda: pickle.dumps({"a": _Evil()}),
    "npy": _objects,
    "npz": lambda: npz(xyz=np.array([[_Evil()]], dtype=object)),
    "pt": lambda: _torch({"state_dict": _Evil()}, archive=True),
    "old pt": lambda: _torch({"a": _Evil()}, archive=False),
}
_PICKLES = [
    ("import-npy", "npy"), ("import-npy", "pickle"), ("import-npz", "npz"),
    ("import-npz", "pickle"), ("import-npz", "pt"), ("import-clip-retrieval", "npy"),
    ("import-safetensors", "pickle"), ("import-safetensors", "pt"), ("import-hdf5", "pickle"),
    ("import-parquet", "pickle"), ("weights-pt", "pt"), ("weights-pt", "old pt"),
    ("weights-pt", "pickle"), ("weights-safetensors", "pickle"), ("weights-safetensors", "pt"),
    ("mini-encoder", "pt"), ("checkpoint-tensors", "pickle"), ("bridge-safetensors", "pt"),
    ("bridge-matcher", "pickle"), ("memory", "pickle"), ("index-flat", "pickle"),
    ("cloud-npy", "npy"), ("cloud-npy", "pickle"), ("cloud-npz", "npz"), ("cloud-npz", "pt"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), _PICKLES)
def test_code_in_a_file_is_never_run(name: str, kind: str, folder: Path) -> None:
    content = _EVIL[kind]()
    if name in ("memory", "index-flat"):  # they try several uses, and refuse each
        target = target_named(name)
        Watched(target, folder)(content)
        assert not _MARKER.exists()
        return
    assert _refusal(name, content, folder)


def test_the_pickles_would_run(folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)"],
        input=_EVIL["pickle"](), check=True, cwd=folder,
    )  # fmt: skip
    assert _MARKER.exists()
    _MARKER.unlink()


def _tensors(header: object, *, length: int | None = None) -> bytes:
    told = json.dumps(header).encode()
    size = len(told) if length is None else length
    return struct.pack("<Q", size) + told + bytes(64)


def _tensor(shape: object, start: int, stop: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}


_SAFETENSORS = ("import-safetensors", "weights-safetensors", "bridge-matcher", "mini-encoder")
_LIES = {
    "longest header": _tensors({}, length=2**63),
    "header longer than the file": _tensors({"x": _tensor([2, 2], 0, 16)}, length=10_000),
    "more than it holds": _tensors({"x": _tensor([2**40, 2], 0, 2**43)}),
    "beyond the end": _tensors({"x": _tensor([2, 2], 64, 80)}),
    "backwards": _tensors({"x": _tensor([2, 2], 16, 0)}),
    "deep": _tensors({}, length=_DEEP)[:8] + b"[" * _DEEP + bytes(64),
}


@pytest.mark.parametrize("name", _SAFETENSORS)
@pytest.mark.parametrize("lie", _LIES)
def test_tensors_that_lie(name: str, lie: str, folder: Path) -> None:
    assert _refusal(name, _LIES[lie], folder)


def test_tensors_that_overlap(folder: Path) -> None:
    both = _tensors({"x": _tensor([2, 2], 0, 16), "y": _tensor([2, 2], 8, 24)})
    for name in _SAFETENSORS[1:]:  # an import reads one tensor, and the other does not matter
        (folder / name).mkdir()
        assert _refusal(name, both, folder / name)


def _edited(name: str, change: Callable[[Any], None], folder: Path) -> bytes:
    """The first whole file of an HDF5 reader, changed and without checksums."""
    (folder / "seeds").mkdir(exist_ok=True)
    return edited(next(iter(target_named(name).seeds(folder / "seeds"))), change)


_MAIN = {
    "memory": "embeddings", "index-ids": "ids/utf8", "neighbours-hdf5": "neighbors",
    "import-hdf5": "train",
}  # fmt: skip


def _external(file: Any, place: str) -> None:
    file[place] = h5py.ExternalLink("/tmp/other.h5", "/embeddings")


def _loop(file: Any, place: str) -> None:
    file[place] = h5py.SoftLink(f"/{place}")


def _stored_elsewhere(file: Any, place: str) -> None:
    file.create_dataset(place, (4, 8), "f4", external=[("/etc/passwd", 0, 128)])


def _virtual(file: Any, place: str) -> None:
    layout = h5py.VirtualLayout((4, 8), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "embeddings", (4, 8))
    file.create_virtual_dataset(place, layout)


def _pointers(file: Any, place: str) -> None:
    """HDF5 keeps strings of any length as places in the file; NumPy's objects are pointers."""
    file.create_dataset(place, data=[["a"] * 8] * 40, dtype=h5py.string_dtype())


def _claims(file: Any, place: str) -> None:
    file.create_dataset(place, (2**40, 8), "f4", chunks=(1000, 8))


_WAYS = [_external, _loop, _stored_elsewhere, _virtual, _pointers, _claims]


@pytest.mark.parametrize("name", _MAIN)
@pytest.mark.parametrize("way", _WAYS)
def test_hdf5_that_leads_elsewhere_or_claims_too_much(
    name: str, way: Callable[[Any, str], None], folder: Path
) -> None:
    def change(file: Any) -> None:
        del file[_MAIN[name]]
        way(file, _MAIN[name])

    content = _edited(name, change, folder)
    for kind, one in (("bare", content), ("summed", summed(content))):
        (folder / kind).mkdir()
        assert re.search(
            "link|other files|not numbers|claims|no dataset|bytes of rows|object",
            _refusal(name, one, folder / kind),
        )


@pytest.mark.parametrize(
    "table",
    [
        b"[" * _DEEP, b"", b"[]", b"1", b'{"size": Infinity, "data": []}',
        b'{"size": -1, "data": []}', b'{"size": 1, "data": [["a", 0, 1e400]]}',
        b'{"size": 1, "data": {"a": 1}}', b'{"size": 1, "data": [["a", -9, 1]]}',
        b'{"size": 1, "data": [["a", 0, %d]]}' % 2**80,
    ],
)  # fmt: skip
def test_a_table_of_checksums_that_lies(table: bytes, folder: Path) -> None:
    (folder / "seeds").mkdir()
    whole = next(iter(target_named("memory").seeds(folder / "seeds")))
    (folder / "m.h5").write_bytes(with_table(whole, lambda _: table))
    with pytest.raises(UserError, match="the table of its checksums"):
        Memory(folder / "m.h5")


def test_a_memory_of_pointers_does_not_end_the_process(folder: Path) -> None:
    """In a process of its own: before it was refused, this took bytes of the file for pointers."""
    for part in ("embeddings", "ids/utf8", "local"):

        def change(file: Any, part: str = part) -> None:
            if part in file:
                del file[part]
            _pointers(file, part)

        path = folder / "m.h5"
        path.write_bytes(_edited("memory", change, folder))
        told = subprocess.run(
            [sys.executable, "-c", "import sys; from features.memories.memory import Memory\n"
             "try:\n m = Memory(sys.argv[1]); list(m.ids); print(m.tensor())\n"
             "except Exception as e: print(type(e).__name__)", path],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert (told.returncode, told.stdout) == (0, "UserError\n"), told.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids/offsets": np.array([0, 5], np.int64)}, "1 ids for 40 embeddings"),
        ({"ids/offsets": np.zeros(41)}, "its ids are no column of strings"),
        ({"ids/utf8": np.zeros((2, 2), np.uint8)}, "its ids are no column of strings"),
        ({"embeddings": np.zeros((40, 8))}, "float64, not float16 or float32"),
        ({"embeddings": np.zeros(40, np.float32)}, "not rows"),
        ({"embeddings": h5py.Empty("f4")}, "embeddings are None, not rows"),
        ({"embeddings": "group"}, "is not readable|not an array|no attribute"),
    ],
)
def test_a_memory_whose_parts_do_not_fit(
    change: dict[str, Any], message: str, folder: Path
) -> None:
    def edit(file: Any) -> None:
        for name, value in change.items():
            del file[name]
            if isinstance(value, str):
                file.create_group(name)
            else:
                file[name] = value

    (folder / "m.h5").write_bytes(_edited("memory", edit, folder))
    with pytest.raises(UserError, match=message):
        Memory(folder / "m.h5")


def test_text_in_a_memory_that_is_no_text_is_told(folder: Path) -> None:
    def edit(file: Any) -> None:
        file["ids/utf8"][0] = 0xFF

    (folder / "m.h5").write_bytes(_edited("memory", edit, folder))
    memory = Memory(folder / "m.h5")
    for read in (lambda: list(memory.ids), lambda: memory.ids[0], lambda: memory.row_of):
        with pytest.raises(UserError, match=r"the column ids of .* is damaged, .* not UTF-8 text"):
            read()
    assert memory.ids[1] == "item 1"


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "/etc/passwd", "../secret.bin", "..%2Fsecret.bin"]
)
def test_a_mesh_reads_nothing_outside_of_its_folder(uri: str, folder: Path) -> None:
    pytest.importorskip("trimesh")
    (folder / "secret.bin").write_bytes(bytes(1000))
    (folder / "mesh").mkdir()
    content = json.dumps(gltf(uri)).encode()
    assert "is not a file in the folder" in _refusal("cloud-gltf", content, folder / "mesh")


def test_a_table_that_claims_more_rows_than_it_has(folder: Path) -> None:
    """Three rows, of which Parquet writes the number twice over, as a number of varying length."""
    content = parquet(embedding=[row.tolist() for row in ROWS])
    few = content.replace(b"\x16\x06", b"\x16\x7e")
    (folder / "few.parquet").write_bytes(few)
    file = open_embeddings(folder / "few.parquet", "image")
    assert (file.rows, sum(map(len, file.blocks()))) == (63, 3)
    columns, _ = choose_columns(file, "image", ColumnNames())
    header = header_for(file, MadeBy("s"), "image")
    with pytest.raises(UserError, match="3 embeddings were given for 63 ids"):
        import_memory(file, columns, folder / "m.h5", header)
    place = content.index(b"\x16\x06")
    footer = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    many = content[:place] + b"\x16\x80\x80\x80\x80\x80\x40" + content[place + 2 : -8]
    claiming = many + struct.pack("<I", len(many) - footer) + b"PAR1"
    assert _refusal("import-parquet", claiming, folder)


def _deep_json(content: bytes) -> bytes:
    return b"[" * _DEEP if content.startswith(b"[") else b'{"a":' * _DEEP


@pytest.mark.parametrize(
    "name", [one.name for one in every_target().values() if one.form in ("json", "lines")]
)
def test_json_without_end_is_refused(name: str, folder: Path) -> None:
    """Some try several uses, and some forget what is damaged: none may end in a traceback."""
    target = target_named(name)
    watched = Watched(target, folder)
    for content in (b"[" * _DEEP, b'{"a":' * _DEEP, b"9" * 5000, b'{"a": ' + b"9" * 5000 + b"}"):
        watched(content)


@pytest.mark.parametrize("name", ["settings-toml", "recipe-toml"])
@pytest.mark.parametrize(
    "value", ["[" * _DEEP, "[" * _DEEP + "]" * _DEEP, "{a=" * _DEEP, "9" * 5000, "0x" + "f" * 9000]
)
def test_toml_without_end_is_refused(name: str, value: str, folder: Path) -> None:
    assert _refusal(name, f"dimension = {value}\n".encode(), folder)


def test_overlapping_claims_of_a_journal_ask_for_no_memory(folder: Path) -> None:
    target = target_named("partial-journal")
    entry = {"batch": 0, "rows": 2**50, "checksum": "c", "failures": []}
    line = json.dumps(entry).encode()
    watched = Watched(target, folder)
    watched(xxhash.xxh3_64_hexdigest(line).encode() + b" " + line + b"\n")
    assert (folder / "journal.jsonl").read_bytes() == b""  # cut off: it never was so


def test_other_things_that_were_found(folder: Path) -> None:
    """Each ended in a traceback once."""
    many = 10**400
    names = np.zeros(3, "<U1").view(np.uint32)
    names[:] = 0x7FFFFFFF
    found: list[tuple[str, bytes]] = [
        ("import-npz", npz(x=ROWS, ids=names.view("<U1"))),
        ("import-ids-parquet", parquet(id=["a", "é"]).replace("é".encode(), b"\xc3\x01")),
        ("run-json", b'{"format": "mcr-bridge run", "version": Infinity}'),
        ("run-metrics", b'{"epoch": Infinity}\n'),
        ("run-metrics", b"\xff\n"),
        ("run-metrics", f'{{"epoch": 1, "loss": {many}}}\n'.encode()),
        ("failures-list", b'{"id": "a"}\n'),
        ("annotations-boxes-jsonl", b'{"image": "a", "left": 0, "top": 0, "right": 1, '
                                    b'"bottom": 1}\n{"image": "b"}\n'),
    ]  # fmt: skip
    for number, (name, content) in enumerate(found):
        (folder / str(number)).mkdir()
        assert _refusal(name, content, folder / str(number)), name
    (folder / "pairs").mkdir()
    Watched(target_named("kept-pairs"), folder / "pairs")(
        save({"0": torch.ones(1)}, {"about": "[]"})
    )
