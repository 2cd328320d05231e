"""What is asked of the server, and what it answers; the client has the same.

Requests are pydantic models, which check what comes in. Answers are dataclasses, which are made
without checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from features.search.filters import ColumnInfo as ColumnInfo
from features.search.filters import ValueCount as ValueCount
from features.space import Modality

MAX_ROW = 1 << 62
_MOST_QUERIES = 256  # that are looked at; the server's own limit is lower
_MOST_KEYS, _MOST_COLUMNS = 20, 32
_Name = Annotated[str, Field(min_length=1, max_length=4096)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


def _few_keys(value: Any, most: int) -> Any:
    """A value as it is. Raises ValueError for an object of many keys, before any is looked at."""
    if isinstance(value, dict) and len(value) > most:
        raise ValueError(f"an object has {len(value)} keys, at most {most} are taken")
    return value


class _Request(BaseModel):
    """What is wrong ends the check at once: every further error would take memory and time."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_keys(cls, value: Any) -> Any:
        return _few_keys(value, _MOST_KEYS)


class TextQuery(_Request):
    """A sentence."""

    text: Annotated[str, Field(min_length=1)]


class ContentQuery(_Request):
    """A file: an image, a sound or a point cloud, by its suffix."""

    content: Annotated[str, Field(min_length=1, description="The file's bytes in base64.")]
    filename: Annotated[str, Field(min_length=1, max_length=255, examples=["query.png"])]


class ItemName(_Request):
    """An item that is served."""

    collection: _Name
    id: Annotated[str, Field(max_length=4096)]


class ItemQuery(_Request):
    """More like an item."""

    item: ItemName


class SavedQuery(_Request):
    """A query that was asked before, by the key that its answer gave."""

    saved: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class EmbeddingQuery(_Request):
    """An embedding of a space, or of a bridge's shared space."""

    embedding: Annotated[list[_Number], Field(min_length=1, max_length=65_536, fail_fast=True)]
    space: _Name
    modality: Annotated[
        Modality | None, Field(description="What was embedded; for bridges that ask for it.")
    ] = None


_KINDS = ("text", "content", "item", "saved", "embedding")


def _kind(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return next((kind for kind in _KINDS if kind in keys), None)


AnyQuery = Annotated[
    Annotated[TextQuery, Tag("text")]
    | Annotated[ContentQuery, Tag("content")]
    | Annotated[ItemQuery, Tag("item")]
    | Annotated[SavedQuery, Tag("saved")]
    | Annotated[EmbeddingQuery, Tag("embedding")],
    Discriminator(
        _kind,
        custom_error_type="no_query",
        custom_error_message=f"a query is an object with one of {', '.join(_KINDS)}",
    ),
]


class Range(_Request):
    """Numbers from `min` to `max`, both included; one of them may be left out."""

    min: _Number | None = None
    max: _Number | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("a range has a min, a max or both")
        return self


_Value = Annotated[str, Field(max_length=4096)] | _Number
Wanted = Annotated[list[_Value], Field(min_length=1, max_length=1000, fail_fast=True)] | Range
Where = dict[str, Wanted]
_Queries = Annotated[list[AnyQuery], Field(min_length=1, max_length=_MOST_QUERIES, fail_fast=True)]


class SearchRequest(_Request):
    """Queries, each answered on its own.

    collections: where to search; unset, in all that are in a shared space, or else in all.
    where: column -> values, one of which an item has, or a range of numbers.
    neighbours: also look the query's own embedding up in the memories of its space.
    """

    queries: _Queries
    collections: (
        Annotated[list[_Name], Field(min_length=1, max_length=1000, fail_fast=True)] | None
    ) = None
    k: Annotated[int, Field(ge=1)] = 12
    offset: Annotated[int, Field(ge=0)] = 0
    where: Annotated[
        Where,
        Field(max_length=_MOST_COLUMNS),
        BeforeValidator(partial(_few_keys, most=_MOST_COLUMNS)),
    ] = {}  # pydantic copies it
    neighbours: bool = False


class EmbedRequest(_Request):
    """Queries to embed, in a bridge's shared space or in a space of its own encoder."""

    queries: _Queries
    bridge: _Name | None = None
    space: _Name | None = None


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
    columns: dict[str, str | float | None]
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
    columns: dict[str, str | float | None]
    media: Media | None


@dataclass(frozen=True)
class Asked:
    """The query as it was understood; `saved` is the key to ask it again by."""

    modality: Modality | None
    text: str | None = None
    filename: str | None = None
    item: dict[str, str] | None = None
    saved: str | None = None


@dataclass(frozen=True)
class Neighbours:
    """The items of a memory whose own embeddings are nearest to the query's."""

    memory: str
    hits: list[Hit]


@dataclass(frozen=True)
class Answer:
    """A page of hits. total: items that pass the filter. took_ms: of the whole request."""

    query: Asked
    took_ms: float
    total: int
    hits: list[Hit]
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
    """A collection that is served. shared: whether it is searched in a bridge's shared space."""

    name: str
    kind: Literal["index", "memory"]
    bridge: str | None
    space: str
    modality: Modality
    items: int
    shared: bool
    queries: list[str]
    columns: list[ColumnInfo]
    media: bool


@dataclass(frozen=True)
class Info:
    """What is served. queries: modalities that can be asked. ready: all encoders are loaded."""

    version: str
    ready: bool
    bridges: list[BridgeInfo]
    collections: list[CollectionInfo]
    queries: list[str]
    limits: dict[str, float]


@dataclass(frozen=True)
class Status:
    """How the server is."""

    status: str


@dataclass(frozen=True)
class Problem:
    """Why a request was not answered, in a sentence."""

    detail: str
