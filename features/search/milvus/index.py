"""An index in Milvus, open for searching."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.memories.memory import MemoryHeader
from features.search.filters import ColumnInfo, ValueCount, Where
from features.search.index import Hit, found_hits
from features.search.milvus.collection import MOST, Collection
from features.search.milvus.fields import Column
from features.search.milvus.rows import Expression, RemoteFilters, RemoteTable
from features.search.ordering import Found, in_order
from features.search.selected import nothing

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import NDArray


class MilvusIndex:
    """A collection with what this program wrote of it: a `features.search.backends.Index`.

    What is told of rows is fetched as it is needed, so one of any size opens at once.
    """

    def __init__(self, collection: Collection, about: dict[str, Any]) -> None:
        self.collection, self.about = collection, about
        self.path = str(collection.place)
        self.header = MemoryHeader(**about["header"])
        columns = [_column(one) for one in about["columns"]]
        self.table = RemoteTable(
            collection, self.header, about["items"], columns, has_items=about["has_items"]
        )
        infos = [_info(one) for one in about["infos"]]
        self.filters = RemoteFilters(self.table, columns, infos)

    def __len__(self) -> int:
        return int(self.about["items"])

    def search(
        self, queries: Float[NDArray[np.float32], "q d"], k: int, where: Where | None = None
    ) -> list[list[Hit]]:
        """See `Index`."""
        return found_hits(self, queries, k, where)

    def search_rows(
        self,
        queries: Float[NDArray[np.float32], "q d"],
        k: int,
        passing: Expression | None = None,
    ) -> Found:
        """See `Index`. Raises UserError for more hits than Milvus finds, or if it does not answer.

        Of a flat index, in the order of float64, and of equal rows the first
        (`features.search.ordering`).
        """
        if queries.ndim != 2 or queries.shape[1] != self.header.dimension:
            raise UserError(
                f"{self.path} holds {self.header.dimension}-d vectors but the queries have shape "
                f"{queries.shape}: rebuild the index with `mcr index`"
            )
        k = min(k, len(self) if passing is None else passing.items)
        if k > MOST:
            raise UserError(
                f"Milvus finds at most {MOST} hits and {k} were asked for: ask for less"
            )
        if not k:
            return nothing(len(queries))
        asked = np.ascontiguousarray(queries, np.float32)
        settings, expression = self.about["search"], str(passing or "")

        def find(queries: NDArray[np.float32], k: int) -> Found:
            return self.collection.nearest(queries, k, expression, settings)

        if self.about["factory"] == "FLAT":
            return in_order(find, self.vectors, asked, k, most=min(MOST, len(self)))
        return find(asked, k)

    def vectors(self, rows: Int[NDArray[np.int64], "n"]) -> Float[NDArray[np.float32], "n d"]:
        """See `Index`."""
        return self.collection.vectors(rows)

    def prepare(self) -> None:
        """Search once, so that Milvus has read what it searches."""
        first = np.zeros((1, self.header.dimension), np.float32)
        first[0, 0] = 1
        self.collection.nearest(first, 1, "", self.about["search"])


def _column(told: dict[str, Any]) -> Column:
    spelled = told["spelled"]
    return Column(**{**told, "spelled": None if spelled is None else tuple(spelled)})


def _info(told: dict[str, Any]) -> ColumnInfo:
    known = {one.name for one in fields(ColumnInfo)}
    values = [ValueCount(**one) for one in told["values"]]
    return ColumnInfo(**{name: told[name] for name in known if name != "values"}, values=values)
