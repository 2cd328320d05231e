"""Building an index in Milvus: rows are written in batches, and those that are there are left out.

It is built under a name of its own, and takes its place when it is finished: a collection that is
searched is always whole, also while another is built in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from features.errors import UsageError, UserError
from features.memories.memory import Memory
from features.progress import Progress
from features.search.building import (
    DEPTHS,
    RECALL_AT,
    RECALL_WANTED,
    Sample,
    fingerprints,
    unit_rows,
)
from features.search.filters import TableFilters
from features.search.index import hit_table
from features.search.milvus.collection import Collection
from features.search.milvus.fields import VECTOR, Column, columns_of, make_schema, told_of
from features.search.milvus.index import MilvusIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.search.ordering import Found

UNFINISHED = "__unfinished"  # ends the name of a collection that is being built
_BATCH_BYTES, _BATCH_ROWS = 4 << 20, 4096
_BLOCK = 65_536  # rows that are counted together, to see what is there
_INFOS_BYTES = 30_000  # of the values of columns that are kept with the index
_LOCAL_KINDS = ("FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "AUTOINDEX")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def build(
    memory: Memory, target: Collection, *, kind: str, overwrite: bool, progress: Progress
) -> MilvusIndex:
    """Build an index of `memory` as `target`, or continue to; see `backends.build_index`."""
    _refuse(target, overwrite=overwrite)
    factory, parameters = index_of(kind, len(memory), local=target.place.local is not None)
    table = TableFilters(hit_table(memory))
    columns = columns_of(memory, table)
    about = _about(memory, factory, parameters, columns, table)
    made = Collection(target.client, target.place.named(f"{target.name}{UNFINISHED}"))
    fresh = _begin(made, memory, columns, about)
    digest = _write(made, memory, columns, progress, fresh=fresh)
    made.finish()
    made.load()
    found = made.count()
    if found != len(memory):
        raise UserError(
            f"{made.place} has {found} rows and {memory.path} {len(memory)}: does another process "
            "write it? run the same command again"
        )
    about["digest"] = digest
    about |= _measured(made, about, memory)
    made.describe(about)
    if target.exists():
        target.drop()
    done = made.rename(target.name)
    done.load()
    return MilvusIndex(done, about)


def index_of(kind: str, items: int, *, local: bool) -> tuple[str, dict[str, int]]:
    """Milvus' type of an index, and its parameters. Raises UserError for none that there is."""
    cells = max(1, min(round(4 * items**0.5), items // 39))
    known: dict[str, tuple[str, dict[str, int]]] = {
        "flat": ("FLAT", {}),
        "hnsw": ("HNSW", {"M": 32, "efConstruction": 200}),
        "ivf": ("IVF_FLAT", {"nlist": cells}),
    }
    if kind.lower() not in known and not _KIND.fullmatch(kind):
        raise UsageError(
            f"'{kind}' is no index of Milvus: use flat, hnsw, ivf, autoindex or the name of one of "
            "its types such as IVF_SQ8; strings of FAISS are for .faiss files"
        )
    factory, parameters = known.get(kind.lower(), (kind.upper(), {}))
    if local and factory not in _LOCAL_KINDS:
        raise UsageError(
            f"milvus-lite has no index {factory}: use one of {', '.join(_LOCAL_KINDS)}, or a server"
        )
    return factory, parameters


def _refuse(target: Collection, *, overwrite: bool) -> None:
    if not target.exists():
        return
    if target.about() is None:
        raise UserError(
            f"{target.place} was not made by this program and is left as it is: name another "
            "collection"
        )
    if not overwrite:
        raise UserError(f"{target.place} exists: pass --overwrite (overwrite=True) to replace it")


def _about(
    memory: Memory,
    factory: str,
    parameters: Mapping[str, int],
    columns: list[Column],
    table: TableFilters,
) -> dict[str, Any]:
    infos = [asdict(table.column(one.name).info(one.name)) for one in columns if one.told]
    infos += [asdict(table.column(one.name).info(one.name)) for one in columns
              if not one.told and one.name not in memory.metadata]  # fmt: skip
    if len(json.dumps(infos)) > _INFOS_BYTES:
        infos = [{**one, "values": []} for one in infos]
    return {
        "factory": factory,
        "parameters": dict(parameters),
        "search": {},
        "memory": str(memory.path.resolve()),
        **fingerprints(memory),
        "items": len(memory),
        "has_items": memory.items is not memory.ids,
        "columns": [asdict(one) for one in columns],
        "infos": infos,
        "header": asdict(memory.header),
    }


def _begin(
    made: Collection,
    memory: Memory,
    columns: list[Column],
    about: Mapping[str, Any],
) -> bool:
    """Make the collection, unless the same is there already; whether it is new."""
    if made.exists():
        wanted = json.loads(json.dumps(about))
        if (found := made.about()) and found | {"search": {}} == found | wanted:
            made.load()
            return False
        made.drop()  # of another memory or kind
    schema = make_schema(made.client, memory, columns)
    made.create(schema, about["factory"], about["parameters"], about)
    return True


def _write(
    made: Collection, memory: Memory, columns: list[Column], progress: Progress, *, fresh: bool
) -> str:
    """Write the rows that are missing; the digest of all."""
    seal = Seal()
    step = max(1, min(_BATCH_ROWS, _BATCH_BYTES // (4 * memory.dimension + 256)))
    with progress.task(f"index {memory.path.name}", len(memory)) as advance:
        for start in range(0, len(memory), _BLOCK):
            stop = min(len(memory), start + _BLOCK)
            there = not fresh and made.count(f"row >= {start} and row < {stop}") == stop - start
            for vectors, told in batches(memory, columns, start, stop, step):
                seal.add(vectors, told)
                if not there:
                    made.write(
                        [{**one, VECTOR: vector} for one, vector in zip(told, vectors, strict=True)]
                    )
                advance(len(told))
    return seal.digest()


def batches(
    memory: Memory, columns: list[Column], start: int, stop: int, step: int
) -> Iterator[tuple[NDArray[np.float32], list[dict[str, Any]]]]:
    """The unit vectors of rows, and what else is kept of them, some at a time."""
    for first in range(start, stop, step):
        last = min(stop, first + step)
        vectors = unit_rows(np.asarray(memory.read(first, last), np.float32))
        yield vectors, told_of(memory, columns, first, last)


class Seal:
    """Hashes all that is kept of rows, however many are added at a time."""

    def __init__(self) -> None:
        self._vectors, self._told = xxhash.xxh3_64(), xxhash.xxh3_64()

    def add(self, vectors: NDArray[np.float32], told: Iterable[Mapping[str, Any]]) -> None:
        """The next rows."""
        self._vectors.update(np.ascontiguousarray(vectors, "<f4").data)
        for one in told:
            self._told.update(f"{json.dumps(one, sort_keys=True)}\n".encode())

    def digest(self) -> str:
        """Of all rows."""
        return f"{self._vectors.hexdigest()}{self._told.hexdigest()}"


class _Searched:
    """What `Sample` measures the recall of."""

    def __init__(self, collection: Collection, settings: dict[str, int]) -> None:
        self.collection, self.settings = collection, settings

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        return self.collection.nearest(queries, k, "", self.settings)


def _measured(made: Collection, about: Mapping[str, Any], memory: Memory) -> dict[str, Any]:
    """How deep the index is searched, and its recall against exact search."""
    sample = Sample(memory)
    recall, settings = 0.0, {}
    for settings in _settings(about):
        recall = sample.recall(_Searched(made, settings))
        if recall >= RECALL_WANTED:
            break
    return {"search": settings, f"recall@{RECALL_AT}": recall}


def _settings(about: Mapping[str, Any]) -> list[dict[str, int]]:
    """What to search with, the fastest first."""
    if about["factory"] == "HNSW":
        return [{"ef": depth} for depth in DEPTHS]
    cells = about["parameters"].get("nlist")
    if cells:
        return [{"nprobe": max(1, min(cells, round(cells**0.5 * 2)))}]
    return [{}]
