"""Writing memories: from batches of embeddings to a file that `features.memories.memory` reads.

Axes: b rows of a batch, n items, d dimensions. Embeddings have unit L2 norm.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from features.errors import UserError
from features.files import refuse_existing, require_space
from features.hdf5 import put_text
from features.memories.container import creating
from features.memories.memory import FORMAT, VERSION, Columns, Memory, MemoryHeader, StoredDtype
from features.memories.norms import row_norms
from features.memories.sealing import as_column, named_columns, seal
from features.memories.strings import write_named, write_strings
from features.memories.unique import first_repetition
from features.space import Modality, modality_named
from features.sums import BlockDigests

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LocalBatch = tuple["NDArray[Any]", "NDArray[Any]"]
NORM_TOLERANCE = 5e-3  # of a unit norm; float16 rounding stays below it


def write_memory(
    path: str | Path,
    header: MemoryHeader,
    columns: Columns,
    batches: Iterable[NDArray[np.floating[Any]]],
    *,
    local: Iterable[LocalBatch] = (),
    checked: bool = False,
    synced: bool = True,
    may_be_empty: bool = False,
    overwrite: bool = False,
) -> Memory:
    """Write a memory from batches of embeddings (b, d) that follow one another.

    local: batches of parts (b, t, d) and masks (b, t), if the header says t; taken after all
    of `batches`.
    checked: the caller knows that the rows are unit vectors and the ids unique.
    may_be_empty: as a shard may be, all of whose items failed.
    synced: wait until the disk has the file; what is quickly made again need not.
    The file appears when it is complete. The same content gives the same bytes. Raises
    UserError for rows that are not unit vectors of the right width, parts that are not unit
    where the mask is true and zero elsewhere, ids that repeat, a number of rows other than of
    ids, or an output that exists.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    if not (may_be_empty or len(columns.ids)):
        raise UserError("a memory needs at least one item, none were given: check the source")
    _check_columns(columns, checked=checked)
    count = len(columns.ids)
    named = [(name, as_column(c)) for name, c in named_columns(columns) if c is not None]
    metadata = {name: as_column(column) for name, column in columns.metadata.items()}
    texts = [*(column for _, column in named), *metadata.values()]
    strings = [column.utf8.nbytes + column.offsets.nbytes for column in texts]
    require_space(path, count * header.row_dtype().itemsize + sum(strings))
    with creating(path, synced=synced, new=not overwrite) as (file, descriptor, known):
        shape: tuple[int, ...] = (count, header.dimension)
        embeddings = _Rows(file, descriptor, "embeddings", shape, header.dtype, synced=synced)
        digest = xxhash.xxh3_128()
        written = 0
        for batch in batches:
            stop = written + len(batch)
            _check_shape(batch, header.dimension, stop, count)
            if not checked:
                _check_norms(batch, columns.ids, written)
            stored = np.ascontiguousarray(batch, dtype=header.dtype)
            embeddings.append(stored)
            digest.update(stored.data)
            written = stop
        if written != count:
            raise UserError(
                f"{written} embeddings were given for {count} ids: give one id for each row"
            )
        known["embeddings"] = embeddings.sums.all()
        if header.local_length:
            shape = (count, header.local_length, header.dimension)
            parts = _Rows(file, descriptor, "local", shape, header.dtype, synced=synced)
            known["local"] = _write_local(file, parts, header, local, columns.ids, digest)
        elif next(iter(local), None) is not None:
            raise UserError(
                "local embeddings were given for a memory whose header has a local_length of 0: "
                "say how many parts an item has at most, or leave them out"
            )
        for name, column in named:
            write_strings(file, name, column)
        write_named(file, "columns", metadata)
        _write_attributes(file, header, seal(digest, header, columns))
    return Memory(path)


def _write_local(
    file: Any,
    parts: _Rows,
    header: MemoryHeader,
    batches: Iterable[LocalBatch],
    ids: Sequence[str],
    digest: Any,
) -> list[int]:
    """Returns the checksums of the blocks of the parts."""
    count = len(ids)
    shape = (count, header.local_length, header.dimension)
    masks = np.zeros(shape[:2], dtype=np.uint8)
    written = 0
    for rows, mask in batches:
        stop = written + len(rows)
        if rows.shape[1:] != shape[1:] or mask.shape != rows.shape[:2] or stop > count:
            raise UserError(
                f"local embeddings {shape} are expected, rows {written} to {stop} have shape "
                f"{rows.shape} and mask {mask.shape}: give one batch for each batch of embeddings"
            )
        for row, reason in bad_parts(rows, mask).items():
            raise UserError(f"'{ids[written + row]}': {reason}; normalise or remove it")
        stored = np.ascontiguousarray(rows, dtype=header.dtype)
        parts.append(stored)
        digest.update(stored.data)
        masks[written:stop] = mask
        written = stop
    if written != count:
        raise UserError(f"{written} local embeddings were given for {count} items: give all")
    digest.update(masks.data)
    file.create_dataset("local_mask", data=masks)
    return parts.sums.all()


def save_memory(
    path: str | Path,
    embeddings: ArrayLike,
    ids: Sequence[object],
    *,
    space: str,
    modality: Modality,
    labels: Sequence[object] | None = None,
    metadata: Mapping[str, Sequence[object]] | None = None,
    encoder: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Memory:
    """Write a memory from an array or tensor (n, d) of unit rows; float16 is kept.

    ids, labels, columns of metadata: one for each row; numbers become text.
    Raises UserError as `write_memory` does.
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise UserError(
            "embeddings are an array (n, d) of floating point numbers, these have shape "
            f"{rows.shape} and type {rows.dtype}"
        )
    dtype: StoredDtype = "float16" if rows.dtype == np.float16 else "float32"
    header = MemoryHeader(space, modality_named(modality), rows.shape[1], dtype, encoder or {})
    names = None if labels is None else [str(label) for label in labels]
    further = {name: [str(one) for one in column] for name, column in (metadata or {}).items()}
    columns = Columns([str(one) for one in ids], labels=names, metadata=further)
    return write_memory(path, header, columns, [rows], overwrite=overwrite)


def bad_rows(batch: NDArray[np.floating[Any]]) -> dict[int, str]:
    """Rows of (b, d) that cannot be unit-norm embeddings, each with the reason."""
    norms = row_norms(batch)
    return {
        int(row): (
            "the embedding has NaN or infinite values"
            if not np.isfinite(norms[row])
            else "the embedding has zero norm"
            if norms[row] == 0
            else f"the embedding has norm {norms[row]:.4g}, not 1"
        )
        for row in np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))
    }


class _Rows:
    """A contiguous dataset of an open h5py file, written behind HDF5's back from row 0 on.

    Plain writes let other threads run, which h5py's do not.
    descriptor: of the file below.
    synced: tell the disk to begin at once, so that the end need not wait for all of it.
    """

    def __init__(
        self,
        file: Any,
        descriptor: int,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        *,
        synced: bool,
    ) -> None:
        from h5py import h5d, h5p, h5s, h5t

        settings = h5p.create(h5p.DATASET_CREATE)
        settings.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        settings.set_fill_time(h5d.FILL_TIME_NEVER)
        settings.set_obj_track_times(False)
        kind = h5t.py_create(np.dtype(dtype), logical=True)
        space = h5s.create_simple(shape)
        dataset = h5d.create(file.id, name.encode(), kind, space, settings)
        self.descriptor = descriptor
        self.place: int = dataset.get_offset()
        self.synced = synced
        self.sums = BlockDigests()

    def append(self, rows: NDArray[Any]) -> None:
        """Write contiguous rows of the dataset's type after those before."""
        start, left = self.place, rows.reshape(-1).view(np.uint8).data
        self.sums.update(left)
        while left:
            count = os.pwrite(self.descriptor, left, self.place)
            self.place += count
            left = left[count:]
        if self.synced and hasattr(os, "posix_fadvise"):
            # Linux starts to write pages that are said to be needed no more, and keeps them.
            os.posix_fadvise(self.descriptor, start, self.place - start, os.POSIX_FADV_DONTNEED)


def bad_parts(local: NDArray[np.floating[Any]], mask: NDArray[Any]) -> dict[int, str]:
    """Rows of (b, t, d) whose parts are not unit where `mask` (b, t) is true and zero elsewhere.

    Each row comes with the reason.
    """
    norms = np.linalg.norm(local.astype(np.float32, copy=False), axis=2)
    wanted = mask.astype(bool)
    wrong = ~(np.abs(norms - wanted) <= NORM_TOLERANCE)
    return {
        int(row): (
            "a local embedding has NaN or infinite values"
            if not np.isfinite(norms[row]).all()
            else f"the local embedding {part} has norm {norms[row, part]:.4g}, not "
            f"{int(wanted[row, part])}"
        )
        for row, part in ((row, int(wrong[row].argmax())) for row in np.flatnonzero(wrong.any(1)))
    }


def _check_columns(columns: Columns, *, checked: bool) -> None:
    repeated = None if checked else first_repetition(as_column(columns.ids))
    if repeated is not None:
        twice = columns.ids[repeated[0]]
        raise UserError(f"the id '{twice}' appears twice: ids name rows and must be unique")
    further = [(f"values of '{name}'", column) for name, column in columns.metadata.items()]
    for name, column in (("items", columns.items), ("labels", columns.labels), *further):
        if column is not None and len(column) != len(columns.ids):
            raise UserError(
                f"{len(column)} {name} were given for {len(columns.ids)} ids: give one for each"
            )


def _check_shape(batch: NDArray[Any], dimension: int, stop: int, count: int) -> None:
    if batch.ndim != 2 or batch.shape[1] != dimension:
        raise UserError(
            f"embeddings of width {dimension} are expected, these have shape {batch.shape}: "
            "give all rows from one encoder"
        )
    if stop > count:
        raise UserError(
            f"at least {stop} embeddings were given for {count} ids: give one id for each row"
        )


def _check_norms(batch: NDArray[Any], ids: Sequence[str], start: int) -> None:
    for row, reason in bad_rows(batch).items():
        raise UserError(f"'{ids[start + row]}': {reason}; normalise or remove the row")


def _write_attributes(file: Any, header: MemoryHeader, fingerprint: str) -> None:
    numbers = {"version": VERSION, "dimension": header.dimension, "normalized": True}
    for name, number in numbers.items():
        file.attrs[name] = number
    texts = {
        "format": FORMAT,
        "space": header.space,
        "modality": header.modality,
        "encoder": json.dumps(dict(header.encoder), sort_keys=True),
        "extra": json.dumps(dict(header.extra), sort_keys=True),
        "root": header.root,
        "fingerprint": fingerprint,
    }
    for name, text in texts.items():
        if text is not None:
            put_text(file, name, text)
