"""Ids from a file beside the embeddings: one a line, or the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from features.errors import UserError
from features.exchange.embedding_file import TextColumns
from features.exchange.join import split_lines
from features.exchange.parquet import ParquetColumns
from features.files import require_file
from features.memories.strings import StringColumn
from features.tables import TABLE_SUFFIXES, Table, read_table

LINES = "line"  # the only column of a text file


def open_columns(path: Path) -> TextColumns:
    """The columns of a .csv, .tsv, .jsonl or .parquet file, or the lines of any other."""
    suffix = require_file(path, "ids").suffix.lower()
    if suffix == ".parquet":
        return ParquetColumns(path, [path])
    return TableColumns(path) if suffix in TABLE_SUFFIXES else Lines(path)


@dataclass(frozen=True)
class Lines:
    """A UTF-8 text file as one column."""

    path: Path
    names: Sequence[str] = (LINES,)

    def read(self, name: str) -> StringColumn:  # noqa: ARG002
        """The lines. Raises UserError if they are not UTF-8."""
        content = self.path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        try:
            content.decode(errors="surrogatepass")  # as memories keep file names
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path} is not UTF-8 text ({error}): convert it first") from error
        return split_lines(content)


@dataclass(frozen=True)
class TableColumns:
    """A CSV, TSV or JSONL file."""

    path: Path

    @cached_property
    def table(self) -> Table:
        """Its rows."""
        return read_table(self.path)

    @property
    def names(self) -> list[str]:
        """The header's names."""
        return self.table.columns

    def read(self, name: str) -> StringColumn:
        """A column as text, empty where a cell has nothing."""
        self.table.require(name)
        cells = (row.get(name) for row in self.table.rows)
        return StringColumn.of("" if cell is None else str(cell) for cell in cells)
