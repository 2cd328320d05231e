"""Which columns beside the embeddings become a memory's ids, items and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.errors import UserError
from features.exchange.embedding_file import EmbeddingFile, TextColumns
from features.exchange.join import numbers
from features.exchange.text_tables import LINES, open_columns
from features.memories.memory import Columns
from features.memories.strings import StringColumn, same

if TYPE_CHECKING:
    from features.space import Modality

# Names that are taken if the user names none: those that `exporting` writes come first.
ID_COLUMNS = ("id", "ids", LINES, "image_path", "key", "path", "filename", "url")
LABEL_COLUMNS = ("label", "labels")
ITEM_COLUMNS = ("item", "items")
PLACES = ("projection_x", "projection_y")  # of `atlas`, which are made again
CAPTIONS = ("caption", "text")  # of texts: the sentences themselves


@dataclass(frozen=True)
class ColumnNames:
    """Columns that the user named; ids: a file with them, instead of the embeddings' own.

    keep: columns that become metadata of the items; None keeps all that are nothing else and can
    be read as text.
    """

    ids: Path | None = None
    id_column: str | None = None
    label_column: str | None = None
    item_column: str | None = None
    keep: Sequence[str] | None = None


def choose_columns(
    file: EmbeddingFile, modality: Modality, wanted: ColumnNames
) -> tuple[Columns, list[str]]:
    """The columns of the memory, and what the user should know about them.

    Raises UserError if a column is not there, ids are empty, or there are not as many as
    embeddings.
    """
    table = file.columns if wanted.ids is None else open_columns(wanted.ids)
    chosen = _named(table, wanted.id_column, ID_COLUMNS)
    names = () if table is None else table.names
    if table is None or chosen is None:
        having = f" (--id-column names one of {', '.join(names)})" if names else ""
        notes = [f"{file.path} has no ids{having}: the rows' numbers, from 0, are the ids"]
        ids = numbers(file.rows)
    else:
        notes = [] if chosen == LINES else [f"ids are the column '{chosen}' of {table.path}"]
        ids = _ids(table, chosen, file)
    items = _optional(table, file, wanted.item_column, _item_names(modality), chosen)
    if items is not None and same(items, ids):
        items = None
    labels = _optional(table, file, wanted.label_column, LABEL_COLUMNS, chosen)
    if labels is not None and (np.diff(labels.offsets) == 0).any():
        notes.append("labels are left out: some rows have none")
        labels = None
    used = {
        chosen,
        _named(table, wanted.item_column, _item_names(modality)),
        _named(table, wanted.label_column, LABEL_COLUMNS),
    }
    further = [name for name in names if name not in used and name not in (LINES, *PLACES)]
    metadata = {} if table is None else _metadata(table, further, file, wanted.keep, notes)
    return Columns(ids, items, labels, metadata), notes


def _metadata(
    table: TextColumns,
    further: Sequence[str],
    file: EmbeddingFile,
    wanted: Sequence[str] | None,
    notes: list[str],
) -> dict[str, StringColumn]:
    if wanted is not None:
        return {str(_named(table, name, ())): _read(table, name, file) for name in wanted}
    kept = {}
    for name in further:
        try:
            kept[name] = _read(table, name, file)
        except UserError as error:  # bytes, say; nobody asked for it
            notes.append(f"the column '{name}' is left out: {error}")
    return kept


def _item_names(modality: Modality) -> Sequence[str]:
    return (*ITEM_COLUMNS, *CAPTIONS) if modality == "text" else ITEM_COLUMNS


def _named(table: TextColumns | None, name: str | None, usual: Sequence[str]) -> str | None:
    """The column that the user named, or the first of the usual ones that is there."""
    names = () if table is None else table.names
    if name is None:
        return next((one for one in usual if one in names), None)
    if name not in names:
        where = "the embeddings have no columns, give a table with --ids"
        if table is not None:
            where = f"the columns of {table.path} are {', '.join(names) or 'none'}"
        raise UserError(f"there is no column '{name}': {where}")
    return name


def _ids(table: TextColumns, name: str, file: EmbeddingFile) -> StringColumn:
    ids = _read(table, name, file)
    empty = np.flatnonzero(np.diff(ids.offsets) == 0)
    if len(empty):
        raise UserError(
            f"row {empty[0] + 1} of {table.path} has no id in '{name}': fill it, or choose another "
            "column with --id-column"
        )
    return ids


def _optional(
    table: TextColumns | None,
    file: EmbeddingFile,
    name: str | None,
    usual: Sequence[str],
    ids: str | None,
) -> StringColumn | None:
    chosen = _named(table, name, usual)
    if table is None or chosen is None or (chosen == ids and name is None):
        return None
    return _read(table, chosen, file)


def _read(table: TextColumns, name: str, file: EmbeddingFile) -> StringColumn:
    column = table.read(name)
    if len(column) != file.rows:
        raise UserError(
            f"{table.path} has {len(column)} rows but {file.path} has {file.rows} embeddings: give "
            "one for each"
        )
    return column
