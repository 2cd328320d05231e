"""Indices of all back ends behind one interface: FAISS files, and collections of Milvus.

Where an index is, is a path ending in `.faiss`, or an address that begins with the name of another
back end (`features.search.milvus.place`). A back end is a module with an `open_index` and a
`build_index` like those here.

Axes: n items, q queries, d dimensions.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from features.errors import UserError
from features.memories.memory import Memory, MemoryHeader
from features.progress import SILENT, Progress
from features.search.filters import Filters, Where
from features.search.index import Hit, HitTable

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import NDArray

    from features.search.ordering import Found

# scheme -> the back end's module, imported on use; a place without a scheme is a file of FAISS
_BACKENDS = {"milvus": "features.search.milvus.backend"}
_FAISS = "features.search.faiss_backend"
_SCHEME = re.compile(r"([a-z]+)(\+[a-z]+)?:")


class Index(Protocol):
    """An index of a memory, open for searching by inner product, which is the cosine.

    about: what was written with it: the memory's `header` and `fingerprint`, `items`, the settings
    and `recall@10`.
    """

    about: dict[str, Any]
    header: MemoryHeader

    @property
    def path(self) -> Path | str:
        """Where it is."""

    @property
    def table(self) -> HitTable:
        """What is told of rows."""

    @property
    def filters(self) -> Filters:
        """The columns that can be filtered on."""

    def __len__(self) -> int: ...

    def search(
        self, queries: Float[NDArray[Any], "q d"], k: int, where: Where | None = None
    ) -> list[list[Hit]]:
        """The k nearest items of every unit query, best first; fewer if there are fewer.

        where: of those that pass this filter. Raises UserError if the queries have another width
        than the index, or for values that are not of their column's kind.
        """

    def search_rows(
        self, queries: Float[NDArray[Any], "q d"], k: int, passing: Any = None
    ) -> Found:
        """As `search`, as arrays: cosines and rows, -1 where it found none.

        passing: what `filters` let pass.
        """

    def vectors(self, rows: Int[NDArray[Any], "n"]) -> Float[NDArray[Any], "n d"]:
        """The vectors of rows, as the index has them."""

    def prepare(self) -> None:
        """Do beforehand what the first search would do."""


class Backend(Protocol):
    """What keeps indices. place: as the user wrote it."""

    def open_index(self, place: str, *, device: str) -> Index:
        """See `open_index`."""

    def build_index(
        self, memory: Memory, place: str, *, kind: str, overwrite: bool, progress: Progress
    ) -> Index:
        """See `build_index`."""

    def check(self, place: str, *, progress: Progress) -> tuple[Index, str | None]:
        """Read all of an index: what is wrong with it and what to do, or None."""

    def names(self, place: str) -> tuple[str, str]:
        """What an index is called, shortly, and so that others of that name differ."""


def is_address(place: str | Path) -> bool:
    """Whether an index is kept by another back end than FAISS's files."""
    found = _SCHEME.match(str(place))
    return found is not None and found[1] in _BACKENDS


def backend_of(place: str | Path) -> Backend:
    """The back end of an index. Raises UserError for an address that names none."""
    found = _SCHEME.match(str(place))
    if found and found[1] in ("http", "https"):
        raise UserError(f"{place} does not say what answers there: write milvus+{place} for Milvus")
    name = _BACKENDS.get(found[1], _FAISS) if found else _FAISS
    backend: Backend = import_module(name)
    return backend


def open_index(place: str | Path, *, device: str = "cpu") -> Index:
    """Open an index: a `.faiss` file, memory-mapped, or a collection of Milvus.

    device: where FAISS searches it; see `features.search.gpu`.
    Raises UserError if it is not there, damaged or not finished, cannot be reached, or was built
    from a memory that has changed since.
    """
    return backend_of(place).open_index(str(place), device=device)


def build_index(
    memory: Memory,
    place: str | Path,
    *,
    kind: str = "flat",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Index:
    """Build an index of `memory` at `place`: a path ending in `.faiss`, or an address of Milvus.

    kind: flat (exact), hnsw, ivf, or what else the back end knows. One in Milvus that was
    interrupted is continued. Raises UserError for a kind that the back end does not know, or an
    index that exists.
    """
    return backend_of(place).build_index(
        memory, str(place), kind=kind, overwrite=overwrite, progress=progress
    )
