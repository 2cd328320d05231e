"""Memories: embeddings of one modality in one space, cached in an HDF5 file.

`/embeddings` (n, d) float16 or float32, contiguous and uncompressed, so that it is read
through a memory map: random rows cost microseconds each. `/ids` are the items' stable
names; `/items`, where it differs, what was embedded (a sentence, or a path relative to the
attribute `root`); `/labels`, optionally, the class of each item. Attributes say which
encoder made the embeddings, and a fingerprint of the content identifies the memory.

Axes: n items, d dimensions. Embeddings have unit L2 norm.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash

from features.errors import UserError
from features.files import refuse_existing, replacing, require_file, require_space
from features.space import Modality, modality_named
from features.strings import StringColumn, map_dataset, read_strings, write_strings

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from numpy.typing import NDArray

FORMAT = "mcr-bridge memory"
VERSION = 1
NORM_TOLERANCE = 5e-3  # of a unit norm; float16 rounding stays below it
StoredDtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class MemoryHeader:
    """What a memory holds, apart from the rows.

    encoder: the encoder's description (`EncoderDescription.as_dict`), or empty if unknown.
    root: folder that `items` are relative to, if they are paths.
    extra: further JSON attributes, such as the bridge that projected the memory.
    """

    space: str
    modality: Modality
    dimension: int
    dtype: StoredDtype = "float16"
    encoder: Mapping[str, Any] = field(default_factory=dict)
    root: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Columns of a memory besides the embeddings; `items` and `labels` may be absent."""

    ids: Sequence[str]
    items: Sequence[str] | None = None
    labels: Sequence[str] | None = None


class Memory:
    """A memory open for reading; rows come from a read-only memory map.

    Picklable, and safe to share between forked or spawned processes: it pickles as its path.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the memory at `path`. Raises UserError if it is missing, damaged or not one."""
        import h5py

        self.path = require_file(Path(path), "memory")
        try:
            with h5py.File(self.path, "r") as file:
                self._check_format(file.attrs)
                self.header = _read_header(file)
                self.fingerprint = str(file.attrs["fingerprint"])
                self.embeddings = map_dataset(file["embeddings"], self.path)
                self.ids = read_strings(file, "ids", self.path)
                self.items = read_strings(file, "items", self.path) if "items" in file else self.ids
                self.labels = read_strings(file, "labels", self.path) if "labels" in file else None
        except (OSError, KeyError, ValueError, IndexError, RuntimeError) as error:
            raise UserError(
                f"{self.path} is not a readable memory ({' '.join(str(error).split())}): "
                "make it again with `mcr extract`"
            ) from error

    def _check_format(self, attributes: Any) -> None:
        if attributes.get("format") != FORMAT:
            raise UserError(
                f"{self.path} is an HDF5 file but not a memory of mcr-bridge: "
                "make one with `mcr extract`"
            )
        if attributes["version"] > VERSION:
            raise UserError(
                f"{self.path} has memory format {attributes['version']}, this program reads up "
                f"to {VERSION}: upgrade mcr-bridge"
            )

    def __reduce__(self) -> tuple[type[Memory], tuple[Path]]:
        return Memory, (self.path,)

    def __len__(self) -> int:
        return len(self.embeddings)

    def __repr__(self) -> str:
        return f"Memory({str(self.path)!r}: {len(self)} {self.modality} in {self.space})"

    @property
    def space(self) -> str:
        """Name of the embedding space."""
        return self.header.space

    @property
    def modality(self) -> Modality:
        """What was embedded."""
        return self.header.modality

    @property
    def dimension(self) -> int:
        """Length of the embeddings."""
        return self.header.dimension

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of every id; built at first use."""
        return {name: row for row, name in enumerate(self.ids)}

    def rows(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Copies of the embeddings at `rows`, (len(rows), d), in the stored dtype."""
        return np.take(self.embeddings, rows, axis=0)

    def tensor(self, rows: NDArray[np.integer[Any]] | None = None) -> Float[torch.Tensor, "n d"]:
        """All embeddings, or those at `rows`, as a float32 tensor of unit rows in RAM."""
        import torch

        stored = self.embeddings if rows is None else self.rows(rows)
        unit = torch.from_numpy(np.array(stored, dtype=np.float32))
        return torch.nn.functional.normalize(unit, dim=-1)

    def item_path(self, row: int) -> Path | None:
        """The file that was embedded at `row`, or None if it was not a file."""
        root = self.header.root
        return None if root is None else Path(root) / self.items[row]

    def verify(self) -> None:
        """Raise UserError if the content does not match the fingerprint."""
        columns = Rows(self.ids, None if self.items is self.ids else self.items, self.labels)
        found = _fingerprint(self.header, [self.embeddings], columns)
        if found != self.fingerprint:
            raise UserError(
                f"{self.path} is damaged: its content has fingerprint {found}, it was written "
                f"with {self.fingerprint}; make it again with `mcr extract`"
            )


def write_memory(
    path: str | Path,
    header: MemoryHeader,
    columns: Rows,
    batches: Iterable[NDArray[np.floating[Any]]],
    *,
    overwrite: bool = False,
) -> Memory:
    """Write a memory from batches of embeddings (b, d) that follow one another.

    The file appears when it is complete. The same content gives the same bytes. Raises
    UserError for rows that are not unit vectors of the right width, ids that repeat, a
    number of rows other than of ids, or an output that exists.
    """
    import h5py

    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    _check_columns(columns)
    count = len(columns.ids)
    strings = [len(s) + 12 for _, column in _named(columns) for s in column or ()]
    row_bytes = header.dimension * np.dtype(header.dtype).itemsize
    # HDF5 crashes the process when the disk fills up while it closes a file.
    require_space(path, count * row_bytes + sum(strings))
    with replacing(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        embeddings = file.create_dataset(
            "embeddings", (count, header.dimension), dtype=header.dtype, track_times=False
        )
        digest = xxhash.xxh3_128()
        written = 0
        for batch in batches:
            stop = written + len(batch)
            _check_batch(batch, header.dimension, columns.ids[written:stop], stop, count)
            stored = np.ascontiguousarray(batch, dtype=header.dtype)
            embeddings[written:stop] = stored
            digest.update(stored.data)
            written = stop
        if written != count:
            raise UserError(
                f"{written} embeddings were given for {count} ids: give one id for each row"
            )
        for name, column in _named(columns):
            if column is not None:
                write_strings(file, name, _as_column(column))
        _write_attributes(file.attrs, header, _seal(digest, header, columns))
    return Memory(path)


def save_memory(
    path: str | Path,
    embeddings: NDArray[np.floating[Any]],
    ids: Sequence[str],
    *,
    space: str,
    modality: Modality,
    labels: Sequence[str] | None = None,
    encoder: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Memory:
    """Write a memory from an array (n, d) of unit vectors, keeping its float16 or float32.

    Raises UserError as `write_memory` does.
    """
    dtype: StoredDtype = "float16" if embeddings.dtype == np.float16 else "float32"
    if embeddings.ndim != 2:
        raise UserError(f"embeddings are an array (n, d), these have shape {embeddings.shape}")
    header = MemoryHeader(space, modality, embeddings.shape[1], dtype, encoder or {})
    return write_memory(path, header, Rows(ids, labels=labels), [embeddings], overwrite=overwrite)


def bad_rows(batch: NDArray[np.floating[Any]]) -> dict[int, str]:
    """Rows of (b, d) that cannot be unit-norm embeddings, each with the reason."""
    norms = np.linalg.norm(batch.astype(np.float32, copy=False), axis=1)
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


def _check_columns(columns: Rows) -> None:
    if not len(columns.ids):
        raise UserError("a memory needs at least one item, none were given: check the source")
    if len(set(columns.ids)) != len(columns.ids):
        twice = next(name for name, count in Counter(columns.ids).items() if count > 1)
        raise UserError(f"the id '{twice}' appears twice: ids name rows and must be unique")
    for name, column in (("items", columns.items), ("labels", columns.labels)):
        if column is not None and len(column) != len(columns.ids):
            raise UserError(
                f"{len(column)} {name} were given for {len(columns.ids)} ids: give one for each"
            )


def _check_batch(
    batch: NDArray[Any], dimension: int, ids: Sequence[str], stop: int, count: int
) -> None:
    if batch.ndim != 2 or batch.shape[1] != dimension:
        raise UserError(
            f"embeddings of width {dimension} are expected, these have shape {batch.shape}: "
            "give all rows from one encoder"
        )
    if stop > count:
        raise UserError(
            f"at least {stop} embeddings were given for {count} ids: give one id for each row"
        )
    for row, reason in bad_rows(batch).items():
        raise UserError(f"'{ids[row]}': {reason}; normalise or remove the row")


def _named(columns: Rows) -> list[tuple[str, Sequence[str] | None]]:
    return [("ids", columns.ids), ("items", columns.items), ("labels", columns.labels)]


def _as_column(strings: Sequence[str]) -> StringColumn:
    return strings if isinstance(strings, StringColumn) else StringColumn.of(strings)


def _write_attributes(attributes: Any, header: MemoryHeader, fingerprint: str) -> None:
    attributes["format"] = FORMAT
    attributes["version"] = VERSION
    attributes["space"] = header.space
    attributes["modality"] = header.modality
    attributes["dimension"] = header.dimension
    attributes["normalized"] = True
    attributes["encoder"] = json.dumps(dict(header.encoder), sort_keys=True)
    attributes["extra"] = json.dumps(dict(header.extra), sort_keys=True)
    if header.root is not None:
        attributes["root"] = header.root
    attributes["fingerprint"] = fingerprint


def _read_header(file: Any) -> MemoryHeader:
    attributes, embeddings = file.attrs, file["embeddings"]
    dtype: StoredDtype = "float16" if embeddings.dtype == np.float16 else "float32"
    root = attributes.get("root")
    return MemoryHeader(
        space=str(attributes["space"]),
        modality=modality_named(str(attributes["modality"])),
        dimension=int(embeddings.shape[1]),
        dtype=dtype,
        encoder=json.loads(attributes["encoder"]),
        root=None if root is None else str(root),
        extra=json.loads(attributes["extra"]),
    )


def _fingerprint(header: MemoryHeader, batches: Iterable[NDArray[Any]], columns: Rows) -> str:
    digest = xxhash.xxh3_128()
    for batch in batches:
        digest.update(np.ascontiguousarray(batch).data)
    return _seal(digest, header, columns)


def _seal(digest: Any, header: MemoryHeader, columns: Rows) -> str:
    """Finish a digest of the embeddings' bytes with the other columns and the space."""
    for name, column in _named(columns):
        if column is not None:
            digest.update(name.encode())
            strings = _as_column(column)
            digest.update(np.ascontiguousarray(strings.offsets).data)
            digest.update(np.ascontiguousarray(strings.utf8).data)
    parts = (header.space, header.modality, str(header.dimension), header.dtype)
    digest.update("\0".join(parts).encode())
    return str(digest.hexdigest())
