"""What the server answers; the client has the same.

Answers are dataclasses, which are made without checks; `bridge.serving.requests` is what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from features.search.filters import ColumnInfo as ColumnInfo
from features.search.filters import ValueCount as ValueCount
from features.space import Modality


@dataclass(frozen=True)
class Media:
    """Addresses of an item's file and of pictures of it; None for what it has not."""

    file: str
    thumbnail: str | None = None
    waveform: str | None = None
    points: str | None = None


@dataclass(frozen=True)
class Item:
    """An item of a collection and what its memory knows of it."""

    id: str
    collection: str
    modality: Modality
    text: str | None
    label: str | None
    columns: dict[str, str | int | float | None]
    media: Media | None


@dataclass(frozen=True)
class Hit:
    """A found item: its place from 1 on, and the cosine."""

    rank: int
    score: float
    id: str
    collection: str
    modality: Modality
    text: str | None
    label: str | None
    columns: dict[str, str | int | float | None]
    media: Media | None


@dataclass(frozen=True)
class Asked:
    """The query as it was understood; `saved` is the key to ask it again by.

    note: what of an item's file was left out as it is larger than what is taken, or why the file
    is not embedded elsewhere.
    """

    modality: Modality | None
    text: str | None = None
    filename: str | None = None
    item: dict[str, str] | None = None
    saved: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Neighbours:
    """The items of a memory whose own embeddings are nearest to the query's.

    memory: as `CollectionInfo` has it.
    """

    memory: str
    hits: list[Hit]


@dataclass(frozen=True)
class Group:
    """A page of one collection's hits, or the problem why it has none."""

    collection: str
    total: int
    hits: list[Hit]
    problem: str | None = None


@dataclass(frozen=True)
class Answer:
    """A page of hits. total: items that pass the filter. took_ms: of the whole request.

    groups: of every collection, where it was asked for; `hits` is empty then.
    """

    query: Asked
    took_ms: float
    total: int
    hits: list[Hit]
    groups: list[Group] | None = None
    neighbours: list[Neighbours] | None = None


@dataclass(frozen=True)
class SearchResponse:
    """One answer for every query, in their order."""

    results: list[Answer]


@dataclass(frozen=True)
class EmbedResponse:
    """Unit embeddings (q, d), in the order of the queries; `saved` as in `Asked`."""

    embeddings: list[list[float]]
    space: str
    dim: int
    saved: list[str | None]


@dataclass(frozen=True)
class SpaceInfo:
    """A space that a bridge joins."""

    name: str
    modalities: list[str]


@dataclass(frozen=True)
class BridgeInfo:
    """A bridge that is served."""

    name: str
    spaces: list[SpaceInfo]
    dim: int


@dataclass(frozen=True)
class CollectionInfo:
    """A collection that is served. shared: whether it is searched in a bridge's shared space.

    memory: what it is called as a memory of its own space, whichever bridge it is searched by.
    same_as: another collection that has the same items in the same place, which is searched
    instead unless this one is named.
    """

    name: str
    kind: Literal["index", "memory"]
    memory: str
    bridge: str | None
    space: str
    modality: Modality
    items: int
    shared: bool
    queries: list[str]
    columns: list[ColumnInfo]
    media: bool
    same_as: str | None = None


@dataclass(frozen=True)
class Info:
    """What is served. queries: modalities that can be asked. ready: all encoders are loaded."""

    version: str
    ready: bool
    bridges: list[BridgeInfo]
    collections: list[CollectionInfo]
    queries: list[str]
    limits: dict[str, int | float]


@dataclass(frozen=True)
class Status:
    """How the server is."""

    status: str


@dataclass(frozen=True)
class Problem:
    """Why a request was not answered, in a sentence."""

    detail: str
