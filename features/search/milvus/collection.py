"""A collection of Milvus and what is asked of it, with its errors as sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.search.milvus.connection import told
from features.search.milvus.fields import ROW, VECTOR
from features.search.milvus.place import Place

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import NDArray

    from features.search.ordering import Found

MOST = 16_384  # hits, or rows, that Milvus gives at once
FORMAT = "mcr-bridge index in Milvus 1"
_FORMAT_KEY, _ABOUT_KEY = "mcr.format", "mcr.index"
_QUERIES = 64  # of a request
_SECONDS = 120.0  # of a request


class Collection:
    """place: with the name of the collection."""

    def __init__(self, client: Any, place: Place) -> None:
        assert place.collection is not None
        self.client, self.place, self.name = client, place, place.collection

    def exists(self) -> bool:
        """Whether Milvus has it."""
        with told(self.place, "looked up"):
            return bool(self.client.has_collection(self.name, timeout=_SECONDS))

    def about(self) -> dict[str, Any] | None:
        """What this program wrote of it, or None if it is not its own.

        Raises UserError for one of a newer version.
        """
        with told(self.place, "looked up"):
            properties = self.client.describe_collection(self.name, timeout=_SECONDS)["properties"]
        found = properties.get(_FORMAT_KEY)
        if found is None or _ABOUT_KEY not in properties:
            return None
        if found != FORMAT:
            raise UserError(
                f"{self.place} is a '{found}', this program reads a '{FORMAT}': upgrade mcr-bridge"
            )
        about: dict[str, Any] = json.loads(properties[_ABOUT_KEY])
        return about

    def create(
        self, schema: Any, kind: str, parameters: Mapping[str, int], about: Mapping[str, Any]
    ) -> None:
        """Make it, empty. kind: Milvus' type of the index over the vectors."""
        indices = self.client.prepare_index_params()
        # Servers take parameters one by one, milvus-lite takes one that is called `params`.
        passed = {"params": dict(parameters)} if self.place.local else dict(parameters)
        indices.add_index(VECTOR, metric_type="IP", index_type=kind, params=passed)
        with told(self.place, "made"):
            self.client.create_collection(
                self.name, schema=schema, index_params=indices, consistency_level="Strong",
                properties={_FORMAT_KEY: FORMAT, _ABOUT_KEY: json.dumps(about)}, timeout=_SECONDS,
            )  # fmt: skip

    def describe(self, about: Mapping[str, Any]) -> None:
        """Write what is to be known of it."""
        with told(self.place, "described"):
            self.client.alter_collection_properties(
                self.name, properties={_ABOUT_KEY: json.dumps(about)}, timeout=_SECONDS
            )

    def load(self) -> None:
        """Have Milvus ready to search it."""
        with told(self.place, "loaded"):
            self.client.load_collection(self.name, timeout=_SECONDS)

    def drop(self) -> None:
        """Delete it."""
        with told(self.place, "deleted"):
            self.client.drop_collection(self.name, timeout=_SECONDS)

    def rename(self, name: str) -> Collection:
        """It, under another name."""
        with told(self.place, f"renamed to {name}"):
            self.client.rename_collection(self.name, name, timeout=_SECONDS)
        return Collection(self.client, self.place.named(name))

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows; those that are there are replaced."""
        with told(self.place, "written"):
            self.client.upsert(self.name, rows, timeout=_SECONDS)

    def finish(self) -> None:
        """Have all that was written on the disk."""
        with told(self.place, "written"):
            self.client.flush(self.name, timeout=10 * _SECONDS)

    def count(self, passing: str = "") -> int:
        """How many rows there are, or pass a filter."""
        with told(self.place, "counted"):
            found = self.client.query(
                self.name, filter=passing, output_fields=["count(*)"], timeout=_SECONDS
            )
        return int(found[0]["count(*)"])

    def query(self, passing: str, fields: Sequence[str], *, limit: int) -> list[Mapping[str, Any]]:
        """Fields of rows that pass a filter, in any order."""
        with told(self.place, "read"):
            found = self.client.query(
                self.name, filter=passing, output_fields=[*fields], limit=limit, timeout=_SECONDS
            )
        return list(found)

    def at_rows(self, rows: Sequence[int], fields: Sequence[str]) -> dict[int, Mapping[str, Any]]:
        """Fields of rows, of those that are there."""
        wanted = f"{ROW} in [{', '.join(str(int(row)) for row in rows)}]"
        found = self.query(wanted, [ROW, *fields], limit=max(1, len(rows)))
        return {int(one[ROW]): one for one in found}

    def nearest(
        self,
        queries: Float[NDArray[np.float32], "q d"],
        k: int,
        passing: str,
        settings: Mapping[str, int],
    ) -> Found:
        """Scores and rows of the nearest, best first, -1 where there are no more."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        for start in range(0, len(queries), _QUERIES):
            with told(self.place, "searched"):
                found = self.client.search(
                    self.name, data=queries[start : start + _QUERIES], anns_field=VECTOR, limit=k,
                    filter=passing, output_fields=[ROW], timeout=_SECONDS,
                    search_params={"metric_type": "IP", "params": dict(settings)},
                )  # fmt: skip
            for place, hits in enumerate(found, start=start):
                for rank, hit in enumerate(hits):
                    scores[place, rank], rows[place, rank] = hit["distance"], hit[ROW]
        order = np.lexsort((rows, -scores), axis=1)  # of equal scores, the first row
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

    def vectors(self, rows: Int[NDArray[np.int64], "n"]) -> Float[NDArray[np.float32], "n d"]:
        """The vectors of rows. Raises UserError if one is missing."""
        known: dict[int, Any] = {}
        wanted = np.unique(rows).tolist()
        for start in range(0, len(wanted), _QUERIES):
            part = wanted[start : start + _QUERIES]
            known |= {row: one[VECTOR] for row, one in self.at_rows(part, [VECTOR]).items()}
        missing = [row for row in wanted if row not in known]
        if missing:
            raise UserError(f"{self.place} has no row {missing[0]}: build it again")
        return np.array([known[row] for row in rows.tolist()], dtype=np.float32)
