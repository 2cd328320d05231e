"""The fingerprint of a memory: of its embeddings' bytes, its columns and its space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from features.memories.memory import Columns, MemoryHeader


def seal(digest: Any, header: MemoryHeader, columns: Columns) -> str:
    """Finish a digest of the embeddings' bytes with the other columns and the space."""
    further = [(f"columns/{name}", column) for name, column in columns.metadata.items()]
    for name, column in (*named_columns(columns), *further):
        if column is not None:
            digest.update(name.encode())
            as_column(column).add_to(digest)
    parts = (header.space, header.modality, str(header.dimension), header.dtype)
    digest.update("\0".join(parts).encode())
    return str(digest.hexdigest())


def named_columns(columns: Columns) -> list[tuple[str, Sequence[str] | None]]:
    """The columns but the metadata, under their names in the file."""
    return [("ids", columns.ids), ("items", columns.items), ("labels", columns.labels)]


def as_column(strings: Sequence[str]) -> StringColumn:
    """Strings as a column, without a copy if they are one."""
    return strings if isinstance(strings, StringColumn) else StringColumn.of(strings)
