"""Parquet: a column of vectors, and columns of text straight from Arrow's buffers.

Arrow's large strings are UTF-8 bytes and int64 offsets, as a memory's are.

Axes: n rows, d dimensions, b rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.exchange.embedding_file import EmbeddingFile, block_rows, require_embeddings
from features.exchange.join import join
from features.files import require_file
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COUNTED = 4096  # rows at a time


def open_parquet(path: Path, key: str | None) -> EmbeddingFile:
    """The column of vectors called `key`, or the only one, and the other columns.

    A row without a vector becomes NaN. Raises UserError if there is no such column.
    """
    table = ParquetColumns(path, [require_file(path, "embeddings")])
    name = _vector_column(table, key)
    rows = table.rows
    if not rows:
        raise UserError(f"{path} has no rows: embeddings are at least one")
    first = next((one for one in _vectors(path, name, 1, None) if not np.isnan(one).all()), None)
    if first is None:
        raise UserError(f"the column {name} of {path} has no vectors: name another with --key")
    dimension, dtype = first.shape[1], first.dtype
    require_embeddings(path, (rows, dimension), dtype)
    if rows > path.stat().st_size:  # less than a byte for each: whether they are there is looked up
        found = sum(len(block) for block in _vectors(path, name, _COUNTED, dimension))
        if found != rows:
            raise UserError(
                f"{path} has {found} rows but says that it has {rows}: it was not written "
                "completely, make it again"
            )

    def blocks() -> Iterator[NDArray[Any]]:
        return _vectors(path, name, block_rows(dimension, dtype), dimension)

    absent = partial(_without_vectors, path, name)
    return EmbeddingFile(path, rows, dimension, dtype, blocks, table, absent=absent)


@dataclass(frozen=True)
class ParquetColumns:
    """Columns of one or several Parquet files that follow one another."""

    path: Path
    files: Sequence[Path]

    @property
    def names(self) -> list[str]:
        """Columns of the first file that are not nested."""
        return [one.name for one in self.schema if not _nested(one.type)]

    @cached_property
    def schema(self) -> Any:
        """Arrow's schema of the first file."""
        with opened(self.files[0]) as file:
            return file.schema_arrow

    @cached_property
    def counts(self) -> list[int]:
        """Rows of every file."""
        counts = []
        for path in self.files:
            with opened(path) as file:
                counts.append(int(file.metadata.num_rows))
        return counts

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(self.counts)

    def read(self, name: str) -> StringColumn:
        """A column as text, empty where a cell has nothing."""
        return join([part for path in self.files for part in _strings(path, name)])


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A Parquet file. Raises UserError if it is none, or pyarrow is missing."""
    pyarrow = require_arrow(f"reading {path}")
    parquet = require_arrow(f"reading {path}", "pyarrow.parquet")
    try:
        with parquet.ParquetFile(require_file(path, "table")) as file:
            yield file
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable Parquet file ({error})") from error


def require_arrow(what: str, module: str = "pyarrow") -> Any:
    """Import a module of pyarrow.

    Raises UserError if it is missing, or does not fit the NumPy that is installed.
    """
    from features.extras import install_line, require_package

    try:
        require_package("pyarrow", what)
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"{what} needs pyarrow, which cannot be imported ({error}): {install_line('pyarrow')}"
        ) from error


def _strings(path: Path, name: str) -> Iterator[StringColumn]:
    pyarrow = require_arrow(f"reading {path}")
    with opened(path) as file:
        _require_one(path, name, file.schema_arrow.names)
        for chunk in file.read(columns=[name]).column(name).chunks:
            try:
                text = chunk.cast(pyarrow.large_string())
                text.validate(full=True)  # Arrow takes a file's word that its text is UTF-8
            except pyarrow.ArrowException as error:
                raise UserError(
                    f"the column '{name}' of {path} is not text ({error}): choose another"
                ) from error
            if text.null_count:
                # Imported here: it takes longer than reading a million strings.
                text = require_arrow(f"reading {path}", "pyarrow.compute").fill_null(text, "")
            _, offsets, utf8 = text.buffers()
            bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
            content = np.frombuffer(utf8 or b"", np.uint8)[bounds[0] : bounds[-1]]
            yield StringColumn(content, bounds - bounds[0])


def _vector_column(table: ParquetColumns, key: str | None) -> str:
    pyarrow = require_arrow(f"reading {table.path}")
    vectors = [one.name for one in table.schema if _is_vector(one.type, pyarrow)]
    name = vectors[0] if key is None and len(vectors) == 1 else key
    if name in vectors:
        _require_one(table.path, name, table.schema.names)
        return str(name)
    found = ", ".join(vectors) or "none"
    if key is None:
        raise UserError(
            f"{table.path} has {len(vectors)} columns of vectors ({found}): name one with --key"
        )
    raise UserError(
        f"{table.path} has no column '{key}' of vectors (lists of floats): it has {found}"
    )


def _require_one(path: Path, name: str | None, names: Sequence[str]) -> None:
    if name not in names:
        raise UserError(f"{path} has no column '{name}': its columns are {', '.join(names)}")
    if names.count(name) > 1:
        raise UserError(
            f"{path} has {names.count(name)} columns called '{name}': give them names of their own"
        )


def _nested(kind: Any) -> bool:
    return bool(kind.num_fields)


def _is_vector(kind: Any, pyarrow: Any) -> bool:
    types = pyarrow.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))


def _vectors(
    path: Path, name: str, rows: int, dimension: int | None
) -> Iterator[NDArray[np.floating[Any]]]:
    """Blocks of a column of lists; without a dimension, whatever the first list has."""
    done = 0
    with opened(path) as file:
        for batch in file.iter_batches(batch_size=rows, columns=[name]):
            lists = batch.column(0)
            valid = np.asarray(lists.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
            values = lists.flatten().to_numpy(zero_copy_only=False)
            width = dimension or (len(values) // max(1, int(valid.sum())) or 1)
            lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
            wrong = np.flatnonzero(valid & (lengths != width))
            if len(wrong):
                raise UserError(
                    f"row {done + int(wrong[0]) + 1} of {path} has a vector of "
                    f"{int(lengths[wrong[0]])} numbers, the first has {width}: mend or remove it"
                )
            block = values.reshape(-1, width)
            if not valid.all():
                block = np.full((len(lists), width), np.nan, dtype=values.dtype)
                block[valid] = values.reshape(-1, width)
            done += len(lists)
            yield block


def _without_vectors(path: Path, name: str) -> Iterator[int]:
    done = 0
    with opened(path) as file:
        for batch in file.iter_batches(columns=[name]):
            valid = batch.column(0).is_valid().to_numpy(zero_copy_only=False)
            yield from (done + np.flatnonzero(~valid.astype(bool))).tolist()
            done += len(batch)
