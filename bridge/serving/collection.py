"""Collections: items that are searched together, and how indices and memories become such.

A collection is an index or a memory in the space where it is searched: a bridge's shared space, or
its own. A memory of a space that bridges join is searched in theirs, projected on the way; its own
embeddings answer what the neighbours of a query's own embedding are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bridge.artefact import Bridge
from bridge.projection import check_memory, in_shared_space, is_projected
from bridge.search import check_index
from bridge.serving.rows import ExactRows, IndexRows, Rows
from features.errors import UserError
from features.memories.memory import Memory, MemoryHeader
from features.memories.sharded import open_memory
from features.search.backends import open_index
from features.search.filters import Filters, TableFilters
from features.search.index import HitTable, hit_table
from features.space import Modality


@dataclass
class Collection:
    """Items that are searched together.

    bridge: whose shared space `rows` are in; None for their own. own: the embeddings in their own
    space, where they are known; `memory` is what they are called. holds: fingerprints of the
    memories whose items these are. same_as: an earlier collection of the same items in the same
    place.
    """

    name: str
    memory: str
    kind: Literal["index", "memory"]
    header: MemoryHeader
    table: HitTable
    filters: Filters
    rows: Rows
    bridge: Bridge | None = None
    own: Rows | None = None
    holds: frozenset[str] = frozenset()
    same_as: str | None = None

    def __len__(self) -> int:
        return len(self.table.ids)

    @property
    def modality(self) -> Modality:
        """Of the items."""
        return self.header.modality

    @property
    def place(self) -> str:
        """Where the rows are: the name of a space, or `bridge NAME`."""
        return self.header.space if self.bridge is None else bridge_place(self.bridge.name)


def bridge_place(name: str) -> str:
    """The place of vectors in a bridge's shared space."""
    return f"bridge {name}"


def index_collection(path: str | Path, name: str, bridges: Sequence[Bridge]) -> Collection:
    """An index as a collection. Raises UserError if it cannot be opened, or its bridge is not
    among `bridges`.
    """
    index = open_index(path)
    bridge = _maker(path, index.header, bridges)
    check_index(index, bridge)
    rows = IndexRows(index)
    own = rows if bridge is None else None
    about = index.header, index.table, index.filters
    made_of = (index.about.get("fingerprint"), index.about.get("merged_fingerprint"))
    holds = _holds(index.header, *made_of)
    return Collection(name, name, "index", *about, rows, bridge, own, holds)


def memory_collections(
    path: Path, name: str, bridges: Sequence[Bridge], *, trust: bool
) -> list[Collection]:
    """A memory as a collection of each bridge that joins its space, or of its own space.

    Raises UserError as `index_collection`, or if its encoder is not that of the bridge.
    """
    memory = open_memory(path)
    table, own = hit_table(memory), ExactRows(lambda: memory.embeddings)
    of = partial(
        Collection,
        memory=name,
        kind="memory",
        header=memory.header,
        table=table,
        filters=TableFilters(table),
        holds=_holds(memory.header, memory.fingerprint),
    )
    if is_projected(memory):
        maker = _maker(path, memory.header, bridges)
        if maker is not None:
            check_memory(maker, memory, trust_encoder=trust)
        return [of(name, rows=own, bridge=maker)]
    joined = [bridge for bridge in bridges if memory.space in bridge.spaces]
    if not joined:
        return [of(name, rows=own, own=own)]
    found = []
    for bridge in joined:
        check_memory(bridge, memory, trust_encoder=trust)
        where = name if len(joined) == 1 else f"{name}@{bridge.name}"
        rows = ExactRows(partial(_projected, bridge, memory, trust))
        found.append(of(where, rows=rows, bridge=bridge, own=own))
    return found


def find_same(collections: Sequence[Collection]) -> None:
    """Note which collections have the items of an earlier one, so that no hit comes twice."""
    for place, one in enumerate(collections):
        for other in collections[:place]:
            if other.same_as is None and other.place == one.place and other.holds & one.holds:
                one.same_as = other.name
                break


def _holds(header: MemoryHeader, *fingerprints: str | None) -> frozenset[str]:
    """A memory's fingerprints, and that of the memory it was projected from."""
    return frozenset(filter(None, (*fingerprints, header.extra.get("projected_fingerprint"))))


def _projected(bridge: Bridge, memory: Memory, trust: bool) -> Any:
    return in_shared_space(bridge, memory, trust_encoder=trust).cpu()


def _maker(path: str | Path, header: MemoryHeader, bridges: Sequence[Bridge]) -> Bridge | None:
    """The bridge whose shared space a file is in. Raises UserError if it is not served."""
    made_by = header.extra.get("bridge")
    if made_by is None:
        return None
    for bridge in bridges:
        if bridge.fingerprint == made_by:
            return bridge
    given = ", ".join(f"{bridge.name} ({bridge.fingerprint})" for bridge in bridges) or "none"
    raise UserError(
        f"{path} holds the space of the bridge {header.space} ({made_by}), the bridges given are "
        f"{given}: give it with --bridge"
    )
