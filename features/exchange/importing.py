"""Embeddings of another tool into a memory.

Rows of unit norm are copied; other rows are normalised, once, and counted; rows that cannot be
normalised are left out and listed, as an extraction lists the items that it could not embed.

Axes: n rows, d dimensions, b rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.exchange.ahead import ahead
from features.extraction.partial import Failure, write_failures
from features.files import refuse_existing
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.norms import row_norms, unit
from features.memories.sealing import as_column
from features.memories.unique import first_repetition
from features.memories.writing import NORM_TOLERANCE, write_memory
from features.progress import SILENT, Advance, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.exchange.embedding_file import EmbeddingFile


@dataclass(frozen=True)
class Imported:
    """The memory, what was left out, and how many rows had to be normalised.

    lowest, highest: range of the norms of the rows in the file, apart from those left out.
    """

    memory: Memory
    failures: list[Failure]
    failures_path: Path
    normalised: int
    lowest: float
    highest: float


def import_memory(
    file: EmbeddingFile,
    columns: Columns,
    out: str | Path,
    header: MemoryHeader,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Imported:
    """Write the embeddings of `file` as the memory `out`, with one id for each row.

    The header's `extra` gets the file's name, how many rows were normalised, and the range of the
    norms in the file.
    Raises UserError if the header's dimension is not the file's, ids repeat, the output exists,
    or no row can be normalised.
    """
    out = Path(out)
    refuse_existing(out, overwrite=overwrite)
    if out.exists() and out.samefile(file.path):
        raise UserError(f"{out} is the source itself: choose another output")
    if header.dimension != file.dimension:
        raise UserError(
            f"{file.path} has rows of {file.dimension} numbers but the space {header.space} has "
            f"{header.dimension} dimensions: choose another encoder or file"
        )
    _require_unique(columns, file)
    failures: list[Failure] = []
    failures_path = out.with_suffix(".failures.jsonl")
    norms = _Norms()
    try:
        with progress.task(f"import {file.path.name}", file.rows) as advance:
            memory = _write(file, columns, out, header, norms, overwrite, advance)
    except _BadRowError:  # rare: only now is the file read twice
        failures, good = _sort_out(file, columns)
        norms, columns = _Norms(good), _keep(columns, good)
        write_failures(failures_path, failures)  # before the memory, which is then the last
        with progress.task(f"import {len(columns.ids)} of them", len(columns.ids)) as advance:
            memory = _write(file, columns, out, header, norms, overwrite, advance)
    if not failures:
        write_failures(failures_path, [])  # removes an older list
    return Imported(memory, failures, failures_path, norms.normalised, norms.lowest, norms.highest)


def _require_unique(columns: Columns, file: EmbeddingFile) -> None:
    repeated = first_repetition(as_column(columns.ids))
    if repeated is not None:
        raise UserError(
            f"the id '{columns.ids[repeated[0]]}' is that of rows {repeated[0] + 1} and "
            f"{repeated[1] + 1} of {file.path} and ids are unique: choose another column with "
            "--id-column, or give them with --ids"
        )


class _BadRowError(Exception):
    """A row cannot be normalised."""


class _Norms:
    """Normalises blocks as they pass, and remembers what their norms were.

    good: which rows to keep; without it, a row that cannot be normalised stops everything.
    """

    def __init__(self, good: NDArray[np.bool_] | None = None) -> None:
        self.good, self.row = good, 0
        self.normalised, self.lowest, self.highest = 0, np.inf, 0.0

    def unit(self, block: NDArray[Any]) -> NDArray[Any]:
        """The rows to keep of a block (b, d), of unit norm."""
        if self.good is not None:
            start, self.row = self.row, self.row + len(block)
            block = block[self.good[start : self.row]]
        norms = row_norms(block)
        if not len(norms):
            return block
        self.lowest = min(self.lowest, float(norms.min()))
        self.highest = max(self.highest, float(norms.max()))
        if not (self.lowest > 0 and np.isfinite(norms).all()):
            raise _BadRowError
        far = np.abs(norms - 1) > NORM_TOLERANCE
        if far.any():
            self.normalised += int(far.sum())
            block = block.astype(np.promote_types(block.dtype, np.float32))  # a copy
            block[far] = unit(block[far], norms[far])
        return block


def _write(
    file: EmbeddingFile,
    columns: Columns,
    out: Path,
    header: MemoryHeader,
    norms: _Norms,
    overwrite: bool,
    advance: Advance,
) -> Memory:
    extra = {**header.extra, "imported_from": file.path.resolve().name}

    def told(blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        for block in blocks:
            yield block
            advance(len(block))
        # Known only now: the header is written after the last row.
        extra.update(normalised=norms.normalised, norms=[norms.lowest, norms.highest])

    # Reading and checking overlap with hashing and writing. A power cut costs a second import:
    # the source is there, and waiting for the disk takes a fifth of the time.
    with closing(ahead(norms.unit(block) for block in file.blocks())) as blocks:
        return write_memory(
            out, replace(header, extra=extra), columns, told(blocks),
            checked=True, synced=False, overwrite=overwrite,
        )  # fmt: skip


def _sort_out(file: EmbeddingFile, columns: Columns) -> tuple[list[Failure], NDArray[np.bool_]]:
    """The rows that cannot be normalised, and which rows can."""
    norms = np.concatenate([row_norms(block) for block in file.blocks()])
    good = np.isfinite(norms) & (norms > 0)
    items = columns.ids if columns.items is None else columns.items
    absent = set(file.absent())
    failures = [
        Failure(columns.ids[row], items[row], _reason(float(norms[row]), row in absent))
        for row in np.flatnonzero(~good).tolist()
    ]
    if not good.any():
        raise UserError(
            f"none of the {file.rows} rows of {file.path} can be normalised; the first, "
            f"{failures[0].id}: {failures[0].reason}. Check the file and --key"
        )
    return failures, good


def _reason(norm: float, absent: bool) -> str:
    if absent:
        return "the row has no vector"
    if norm == 0:
        return "the embedding has zero norm"
    return "the embedding has NaN or infinite values"


def _keep(columns: Columns, good: NDArray[np.bool_]) -> Columns:
    rows = np.flatnonzero(good).tolist()

    def kept(column: Any) -> list[str] | None:
        return None if column is None else [column[row] for row in rows]

    metadata = {name: kept(column) or [] for name, column in columns.metadata.items()}
    return Columns(kept(columns.ids) or [], kept(columns.items), kept(columns.labels), metadata)
