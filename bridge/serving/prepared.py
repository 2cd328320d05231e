"""Queries as they are worked on: what is to be embedded, and what is known already."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from bridge.search import Query
from bridge.serving.requests import Wanted
from features.space import Modality


@dataclass
class PreparedQuery:
    """One query. Used by one thread at a time.

    source: what an encoder takes, if there is something. vectors: place -> unit embedding (d,).
    keep: whether its embeddings are kept under a key, which text and items need not.
    note: what of an item's file was left out; without a `source`, why it is not embedded.
    """

    modality: Modality | None
    source: Query | None = None
    vectors: dict[str, Tensor] = field(default_factory=dict)
    text: str | None = None
    filename: str | None = None
    item: dict[str, str] | None = None
    saved: str | None = None
    keep: bool = False
    note: str | None = None

    @property
    def told(self) -> str:
        """What it is called in an error."""
        return self.filename or ("the text" if self.text is not None else "the query")


@dataclass(frozen=True)
class SearchJob:
    """Queries to search with, all in the same collections. named: whether the user named them.

    grouped: whether each collection has a page of its own.
    """

    queries: list[PreparedQuery]
    collections: tuple[str, ...]
    named: bool
    k: int
    offset: int
    where: dict[str, Wanted]
    grouped: bool
    neighbours: bool


@dataclass(frozen=True)
class EmbedJob:
    """Queries to embed in one place: a space, or `bridge NAME`."""

    queries: list[PreparedQuery]
    place: str


@dataclass(frozen=True)
class FoundRows:
    """The best rows of a query: collections' names, rows and scores, and what passes in all."""

    places: list[tuple[str, int, float]]
    total: int


@dataclass(frozen=True)
class JobResult:
    """For every query: its hits, its neighbours by memory, and the key it is kept under.

    groups: for every query its hits by collection, or why there are none; empty if not asked for.
    """

    found: list[FoundRows]
    groups: list[dict[str, FoundRows | str]]
    neighbours: list[dict[str, FoundRows]]
    saved: list[str | None]
