"""Tables: CSV, TSV, JSONL and Parquet files with named columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import UserError
from features.files import require_file
from features.parsing import parse_json

LONGEST_FIELD = 10_000_000  # characters of a CSV cell
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of a file, at least one; `numbers` count them in the file, from 1."""

    path: Path
    rows: Sequence[Row]
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        """Names of the first row's columns."""
        return list(self.rows[0])

    def column(self, name: str, *, empty: bool = False) -> list[str]:
        """One column as text. Raises UserError if it is not there, or has empty cells.

        empty: cells may be empty.
        """
        self.require(name)
        if empty:
            return ["" if row.get(name) is None else str(row[name]).strip() for row in self.rows]
        return [
            cell(self.path, number, row, name)
            for row, number in zip(self.rows, self.numbers, strict=True)
        ]

    def require(self, name: str) -> None:
        """Raise UserError, naming the columns there are, unless `name` is one of them."""
        require_column(self.path, self.columns, name)


def read_table(path: Path, where: Mapping[str, str] | None = None) -> Table:
    """The rows of a CSV, TSV, JSONL or Parquet file whose columns have the values of `where`.

    Raises UserError if it cannot be read, a column is not there, or no row is left.
    """
    numbered = list(table_rows(path, where))
    return Table(path, [row for _, row in numbered], [number for number, _ in numbered])


def table_rows(path: Path, where: Mapping[str, str] | None = None) -> Iterator[tuple[int, Row]]:
    """As `read_table`, but one row after another, each with its number; at least one."""
    reader = _READERS.get(require_file(path, "table").suffix.lower())
    if reader is None:
        raise UserError(f"{path} is not a table: give a {', '.join(TABLE_SUFFIXES)} file")
    wanted = dict(where or {})
    number = kept = 0
    for number, row in enumerate(reader(path), start=1):
        if number == 1:
            for name in wanted:
                require_column(path, row, name)
        if all(str(row.get(name)) == value for name, value in wanted.items()):
            kept += 1
            yield number, row
    if not number:
        raise UserError(f"{path} has no rows: give a table with a header and at least one row")
    if not kept:
        told = ", ".join(f"{name}={value}" for name, value in wanted.items())
        raise UserError(f"none of the {number} rows of {path} has {told}: check --where")


def require_column(path: Path, columns: Iterable[str], name: str) -> None:
    """Raise UserError, naming the columns there are, unless `name` is one of them."""
    if name not in columns:
        raise UserError(f"{path} has no column '{name}': its columns are {', '.join(columns)}")


def cell(path: Path, number: int, row: Row, name: str) -> str:
    """The text of a row's cell. Raises UserError if it is empty."""
    value = row.get(name)
    text = "" if value is None else str(value).strip()
    if not text:
        raise UserError(
            f"row {number} of {path} has nothing in column '{name}': fill it or remove the row"
        )
    return text


def read_utf8(path: Path) -> str:
    """The text of a file. Raises UserError if it is missing or not UTF-8."""
    return "".join(utf8_lines(path))


def utf8_lines(path: Path) -> Iterator[str]:
    """The lines of a text, with their ends, whatever ends them; one at a time.

    Raises UserError if it is missing or not UTF-8.
    """
    try:
        with require_file(path, "source").open(encoding="utf-8-sig") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): convert it first") from error


def _csv_rows(path: Path) -> Iterator[Row]:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    reader = csv.DictReader(utf8_lines(path), delimiter=separator)
    names = reader.fieldnames or ()
    if len(names) == 1 and any(other in names[0] for other in ";\t|"):
        raise UserError(
            f"{path} has one column, '{names[0]}', which looks like several: separate columns with "
            "commas, or with tabs in a .tsv file"
        )
    try:
        for row in reader:
            if None in row:
                raise UserError(
                    f"line {reader.line_num} of {path} has more fields than the header's "
                    f"{len(reader.fieldnames or ())}: quote fields that contain the separator"
                )
            yield row
    except csv.Error as error:
        raise UserError(
            f"line {reader.line_num} of {path} is not CSV ({error}): mend it"
        ) from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(utf8_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise UserError(f"line {number} of {path} is not JSON ({error}): mend it") from error
        if not isinstance(row, dict):
            raise UserError(f"line {number} of {path} is not a JSON object: give one a line")
        yield row


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(
            f'reading {path} needs pyarrow: pip install "mcr-bridge[parquet]"'
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (ArrowException, OSError, ValueError) as error:  # text that is not UTF-8
        raise UserError(f"{path} is not a readable Parquet file ({error})") from error


_READERS = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
TABLE_SUFFIXES = tuple(_READERS)
