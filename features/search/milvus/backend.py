"""Milvus as a back end of `features.search.backends`."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.errors import UserError
from features.memories.memory import Memory
from features.progress import Progress
from features.search.index_files import check_memory
from features.search.milvus.building import UNFINISHED, Seal, build
from features.search.milvus.collection import Collection
from features.search.milvus.connection import connect, told
from features.search.milvus.fields import ID, ITEM, ROW, VECTOR
from features.search.milvus.index import MilvusIndex
from features.search.milvus.place import Place, collection_for, parse_place

_ROWS = 2048  # read at a time


def open_index(place: str, *, device: str) -> MilvusIndex:
    """Open a collection. Raises UserError as `backends.open_index`."""
    if device not in ("cpu", "auto"):
        raise UserError(f"{place} is searched where Milvus runs, not on {device}: leave it out")
    parsed = parse_place(place)
    if parsed.local is not None and not parsed.local.exists():
        raise UserError(
            f"{parsed.local} does not exist: check the path, or build it with `mcr index`"
        )
    client = connect(parsed)
    collection = _only(client, parsed) if parsed.collection is None else Collection(client, parsed)
    about = _about(collection)
    check_memory(collection.place, about)  # type: ignore[arg-type]
    collection.load()
    found = collection.count()
    if found != about["items"]:
        raise UserError(
            f"{collection.place} was built with {about['items']} rows and has {found}: rebuild it "
            "with `mcr index --overwrite`"
        )
    return MilvusIndex(collection, about)


def build_index(
    memory: Memory, place: str, *, kind: str, overwrite: bool, progress: Progress
) -> MilvusIndex:
    """See `features.search.milvus.building`."""
    parsed = parse_place(place)
    named = parsed.named(parsed.collection or collection_for(memory.path))
    target = Collection(connect(named), named)
    return build(memory, target, kind=kind, overwrite=overwrite, progress=progress)


def names(place: str) -> tuple[str, str]:
    """COLLECTION, and NAME.db#COLLECTION or HOST#COLLECTION."""
    parsed = parse_place(place)
    where = parsed.uri.rpartition("/")[2]
    if parsed.collection is None:
        return (where if parsed.local is None else parsed.local.stem), where
    return parsed.collection, f"{where}#{parsed.collection}"


def check(place: str, *, progress: Progress) -> tuple[MilvusIndex, str | None]:
    """Read every row of an index; what is wrong with it and what to do, or None."""
    index = open_index(place, device="cpu")
    seal, about = Seal(), index.about
    columns = [name for one in about["columns"] for name in (one["field"], one["written"]) if name]
    kept = [ROW, ID, *([ITEM] if about["has_items"] else []), *columns]
    with progress.task(f"verify {index.collection.name}", len(index)) as advance:
        for start in range(0, len(index), _ROWS):
            stop = min(len(index), start + _ROWS)
            found = index.collection.query(
                f"{ROW} >= {start} and {ROW} < {stop}", [*kept, VECTOR], limit=_ROWS
            )
            rows = sorted(found, key=lambda one: one[ROW])
            if [one[ROW] for one in rows] != [*range(start, stop)]:
                return index, f"rows from {start} to {stop} are not there once each: rebuild it"
            vectors = np.array([one[VECTOR] for one in rows], np.float32)
            seal.add(vectors, [{name: one[name] for name in kept} for one in rows])
            advance(stop - start)
    if seal.digest() != about["digest"]:
        return index, (
            f"its content has checksum {seal.digest()}, it was written with "
            f"{about['digest']}: rebuild it with `mcr index --overwrite`"
        )
    return index, None


def _about(collection: Collection) -> dict[str, Any]:
    if collection.exists():
        about = collection.about()
        if about is None:
            raise UserError(
                f"{collection.place} is a collection that `mcr index` did not make: name another"
            )
        return about
    unfinished = Collection(
        collection.client, collection.place.named(f"{collection.name}{UNFINISHED}")
    )
    if unfinished.exists():
        raise UserError(
            f"{collection.place} is not finished: run the command that builds it again, it "
            "continues"
        )
    known = ", ".join(_indices(collection.client, collection.place)) or "none"
    raise UserError(
        f"{collection.place} does not exist, there are {known}: check the name, or build it with "
        "`mcr index`"
    )


def _only(client: Any, place: Place) -> Collection:
    """The one index that is there, where none is named."""
    known = _indices(client, place)
    if len(known) != 1:
        shown = ", ".join(known) or "none"
        raise UserError(
            f"{place} says no collection, there are {shown}: name one after a #, or build one with "
            "`mcr index`"
        )
    return Collection(client, place.named(known[0]))


def _indices(client: Any, place: Place) -> list[str]:
    with told(place, "read"):
        return sorted(one for one in client.list_collections() if not one.endswith(UNFINISHED))
