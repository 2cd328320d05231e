"""What is asked of the server: pydantic models, which check what comes in."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from features.space import Modality
from features.suggest import did_you_mean

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
    def _has_known_keys(cls, value: Any) -> Any:
        known = cls.model_fields
        if isinstance(_few_keys(value, _MOST_KEYS), dict):
            unknown = next((str(key)[:80] for key in value if key not in known), None)
            if unknown is not None:
                hint = did_you_mean(unknown, known)
                raise ValueError(f"there is no key '{unknown}'{hint}, there are {', '.join(known)}")
        return value


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


# Tags of kinds stand in the places of errors; in <>, so that they are no keys of the request.
_KINDS = ("text", "content", "item", "saved", "embedding")


def _kind(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return next((f"<{kind}>" for kind in _KINDS if kind in keys), None)


AnyQuery = Annotated[
    Annotated[TextQuery, Tag("<text>")]
    | Annotated[ContentQuery, Tag("<content>")]
    | Annotated[ItemQuery, Tag("<item>")]
    | Annotated[SavedQuery, Tag("<saved>")]
    | Annotated[EmbeddingQuery, Tag("<embedding>")],
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


def _value_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<number>" if isinstance(value, int | float) else None


def _filter_kind(value: Any) -> str | None:
    if isinstance(value, list):
        return "<values>"
    return "<range>" if isinstance(value, dict | Range) else None


_Value = Annotated[
    Annotated[str, Field(max_length=4096), Tag("<text>")] | Annotated[_Number, Tag("<number>")],
    Discriminator(
        _value_kind,
        custom_error_type="no_value",
        custom_error_message="a value to filter by is a text or a number",
    ),
]
Wanted = Annotated[
    Annotated[list[_Value], Field(min_length=1, max_length=1000, fail_fast=True), Tag("<values>")]
    | Annotated[Range, Tag("<range>")],
    Discriminator(
        _filter_kind,
        custom_error_type="no_filter",
        custom_error_message=(
            'a filter is a list of values, one of which an item has, or a range {"min": .., '
            '"max": ..}'
        ),
    ),
]
Where = dict[str, Wanted]
_Queries = Annotated[list[AnyQuery], Field(min_length=1, max_length=_MOST_QUERIES, fail_fast=True)]


class SearchRequest(_Request):
    """Queries, each answered on its own.

    collections: where to search; unset, in all that are in a shared space, or else in all.
    where: column -> values, one of which an item has, or a range of numbers.
    grouped: the best of every collection on its own, in `groups`: cosines with items of different
    modalities do not compare. neighbours: also look the query's own embedding up in the memories
    of its space.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"queries": [{"text": "the number four three five"}], "k": 3}]
        }
    )
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
    grouped: bool = False
    neighbours: bool = False


class EmbedRequest(_Request):
    """Queries to embed, in a bridge's shared space or in a space of its own encoder."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"queries": [{"text": "one"}, {"text": "two"}], "space": "mini-clip"}]
        }
    )
    queries: _Queries
    bridge: _Name | None = None
    space: _Name | None = None
