"""Memories and indices, as somebody else might send them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from bridge.verification.place import verify
from features.errors import UserError
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.streamed_rows import StreamedRows
from features.memories.writing import write_memory
from features.sealed import read_sealed, sealed
from features.search.building import build_index
from features.search.index import open_index
from features.search.index_files import full_checksum, sampled_checksum
from tests.features.helpers import unit_rows
from tests.fuzz.target import Target

_ROWS = 40


def read_memory(path: Path) -> None:
    """What commands do with a memory, each for itself: they need not check it as a whole first."""
    memory = Memory(path)
    uses: tuple[Callable[[], object], ...] = (
        lambda: list(memory.ids),
        lambda: [memory.ids[row] for row in range(len(memory))],
        lambda: [memory.item_path(row) for row in range(len(memory))],
        lambda: memory.row_of,
        lambda: list(memory.labels or ()),
        lambda: [list(column) for column in memory.metadata.values()],
        lambda: memory.tensor(),
        lambda: memory.rows(np.arange(len(memory))),
        lambda: memory.local is not None and memory.local_tensors(np.arange(len(memory))),
        lambda: StreamedRows([memory])[: len(memory)],
        memory.verify,
        lambda: list(verify(path)),
        lambda: repr(memory),
    )
    for use in uses:
        with suppress(UserError):
            use()


def _memories(folder: Path) -> Iterable[bytes]:
    return [_memory(folder / f"{kind}.h5", kind).read_bytes() for kind in ("plain", "local")]


def _memory(path: Path, kind: str = "plain") -> Path:
    ids = [f"item {row}" for row in range(_ROWS)]
    local = 2 if kind == "local" else 0
    header = MemoryHeader("s", "image", 8, "float32", {"name": "e"}, "/data", local_length=local)
    rows = unit_rows(_ROWS, 8)
    parts = [(np.repeat(rows[:, None], 2, axis=1), np.ones((_ROWS, 2), np.uint8))] if local else []
    columns = Columns(ids, [f"{one}.png" for one in ids], ["x", "y"] * (_ROWS // 2), {"n": ids})
    write_memory(path, header, columns, [rows], local=parts, overwrite=True)
    return path


def _search(path: Path) -> None:
    index = open_index(path)
    queries = unit_rows(3, index.header.dimension)
    uses: tuple[Callable[[], object], ...] = (
        lambda: index.search(queries, 5),
        lambda: index.search(queries, 5, {"label": ["x"]}),
        lambda: index.vectors(np.arange(len(index))),
    )
    for use in uses:
        with suppress(UserError):
            use()


def _write_index(folder: Path, kind: str = "flat") -> None:
    source = _memory(folder / "source.h5")
    build_index(Memory(source), folder / "i.faiss", kind=kind, overwrite=True)
    source.unlink()


def _kind_of_index(kind: str) -> Target:
    def seeds(folder: Path) -> Iterable[bytes]:
        _write_index(folder, kind)
        return [(folder / "i.faiss").read_bytes()]

    def read(path: Path) -> None:
        """The description is that of the file: whoever changes the one can change the other."""
        about = read_sealed(path.with_suffix(".json"))
        told = {"faiss_checksum": sampled_checksum(path), "faiss_digest": full_checksum(path)}
        path.with_suffix(".json").write_text(json.dumps(sealed({**about, **told})))
        _search(path)

    name = f"index-{kind.replace(',', '-').lower()}"
    return Target(
        name,
        "i.faiss",
        read,
        seeds,
        lambda folder: _write_index(folder, kind),
        weight=0.5,
    )


def _descriptions(folder: Path) -> Iterable[bytes]:
    _write_index(folder)
    return [(folder / "i.json").read_bytes()]


def _tables(folder: Path) -> Iterable[bytes]:
    _write_index(folder)
    return [(folder / "i.ids.h5").read_bytes()]


TARGETS = (
    Target("memory", "m.h5", read_memory, _memories, form="hdf5", weight=2),
    Target(
        "index-json", "i.json", lambda path: _search(path.with_suffix(".faiss")), _descriptions,
        _write_index, "json",
    ),
    Target(
        "index-ids", "i.ids.h5", lambda path: _search(path.with_name("i.faiss")), _tables,
        _write_index, "hdf5",
    ),
    *(_kind_of_index(kind) for kind in ("flat", "hnsw", "IVF4,Flat", "SQ8", "PCA4,IVF4,PQ2x4")),
)  # fmt: skip
