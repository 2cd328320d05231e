"""Memories: embeddings of one modality in one space, cached in an HDF5 file.

`/embeddings` (n, d) float16 or float32, contiguous and uncompressed, so that it is read
through a memory map: random rows cost microseconds each. `/ids` are the items' stable
names; `/items`, where it differs, what was embedded (a sentence, or a path relative to the
attribute `root`); `/labels`, optionally, the class of each item; `/columns`, optionally, what
else the source says of each item, under the names of its columns. `/local` (n, t, d) and
`/local_mask` (n, t), optionally, are the embeddings of each item's parts: patches of an image,
windows of a sound. Attributes say which encoder made the embeddings, and a fingerprint of the
content identifies the memory.

All of it has checksums (`features.memories.container`): what is read here is as it was written.

Axes: n items, t parts, d dimensions. Embeddings have unit L2 norm; those of parts that an item
does not have are zero, and false in the mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash

from features.errors import UserError
from features.files import require_file
from features.hdf5 import refuse_links, texts_of
from features.memories.container import CheckedArray, opened
from features.memories.reading import header_fields, local_arrays, remedy
from features.memories.sealing import seal
from features.space import Modality

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Float
    from numpy.typing import NDArray

FORMAT = "mcr-bridge memory"
VERSION = 1
DAMAGED = "copy it again, or make it again with `mcr extract --overwrite`"
# What h5py and NumPy make of a file that is not as it was written, or never was a memory.
_DAMAGED = (
    OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError,
    MemoryError,
)  # fmt: skip
TEXTS = ("format", "space", "modality", "encoder", "extra", "root", "fingerprint")  # attributes
_CACHED = 1 << 17  # values made unit at a time
StoredDtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class MemoryHeader:
    """What a memory holds, apart from the rows.

    encoder: the encoder's description (`EncoderDescription.as_dict`), or empty if unknown.
    root: folder that `items` are relative to, if they are paths.
    extra: further JSON attributes, such as the bridge that projected the memory.
    local_length: parts an item has at most, 0 if the memory has no local embeddings.
    """

    space: str
    modality: Modality
    dimension: int
    dtype: StoredDtype = "float16"
    encoder: Mapping[str, Any] = field(default_factory=dict)
    root: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    local_length: int = 0

    def row_dtype(self) -> np.dtype[Any]:
        """One item with its parts, as NumPy lays it out: pooled, local, mask."""
        number = np.dtype(self.dtype)
        fields: list[Any] = [("pooled", number, (self.dimension,))]
        if self.local_length:
            fields.append(("local", number, (self.local_length, self.dimension)))
            fields.append(("mask", np.uint8, (self.local_length,)))
        return np.dtype(fields)


@dataclass(frozen=True)
class Columns:
    """Columns of a memory besides the embeddings; `items` and `labels` may be absent.

    metadata: further columns of the source, by name; an empty string where it has nothing.
    """

    ids: Sequence[str]
    items: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Memory:
    """A memory open for reading; rows come from a read-only memory map.

    Picklable, and safe to share between forked or spawned processes: it pickles as its path.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the memory at `path`. Raises UserError if it is missing, damaged or not one."""
        self.path = require_file(Path(path), "memory")
        try:
            with opened(self.path, DAMAGED) as file:
                refuse_links(file.file)
                texts = texts_of(file.file, self.path, TEXTS)
                self._check_format(texts, file.file.attrs)
                file.require_sums()
                self.header = MemoryHeader(**header_fields(file.file, texts))
                self.fingerprint = texts["fingerprint"]
                self.checksums = file.sums is not None
                self._embeddings = file.array("embeddings")
                self._local, self._local_mask = local_arrays(file)
                self.ids: Sequence[str] = file.strings("ids")
                self.items = file.strings("items") if "items" in file.file else self.ids
                self.labels = file.strings("labels") if "labels" in file.file else None
                self.metadata = file.named("columns")
                self._check_lengths()
        except _DAMAGED as error:
            raise UserError(
                f"{self.path} is not a readable memory ({' '.join(str(error).split())}): "
                f"{remedy(self.path)}"
            ) from error

    def _check_format(self, texts: Mapping[str, str], attributes: Any) -> None:
        if texts.get("format") != FORMAT:
            raise UserError(
                f"{self.path} is an HDF5 file but not a memory of mcr-bridge: "
                "make one with `mcr extract`"
            )
        if attributes["version"] > VERSION:
            raise UserError(
                f"{self.path} has memory format {attributes['version']}, this program reads up "
                f"to {VERSION}: upgrade mcr-bridge"
            )

    def _check_lengths(self) -> None:
        """Raise ValueError unless there is one of everything for each row."""
        columns: dict[str, Any] = {
            "ids": self.ids, "items": self.items, "labels": self.labels, "local": self._local,
            "local_mask": self._local_mask, **self.metadata,
        }  # fmt: skip
        for name, column in columns.items():
            if column is not None and len(column) != len(self):
                raise ValueError(f"it has {len(column)} {name} for {len(self)} embeddings")

    def __reduce__(self) -> tuple[type[Memory], tuple[Path]]:
        return Memory, (self.path,)

    def __len__(self) -> int:
        return len(self._embeddings)

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

    @property
    def columns(self) -> Columns:
        """All columns besides the embeddings, as they are written."""
        items = None if self.items is self.ids else self.items
        return Columns(self.ids, items, self.labels, self.metadata)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of every id; built at first use."""
        return {name: row for row, name in enumerate(self.ids)}

    @property
    def parts(self) -> tuple[Memory, ...]:
        """The memories that are files of their own, in order: this one."""
        return (self,)

    @property
    def embeddings(self) -> NDArray[Any]:
        """All embeddings (n, d), mapped, in the stored dtype; all are checked when first asked for.

        `read` and `rows` check what they give and no more. They raise UserError, as all that reads
        does, where the file is damaged.
        """
        return self._embeddings.all()

    @property
    def local(self) -> NDArray[Any] | None:
        """The embeddings of all parts (n, t, d), as `embeddings` are; None if there are none."""
        return None if self._local is None else self._local.all()

    @property
    def local_mask(self) -> NDArray[Any] | None:
        """Which parts (n, t) there are; None if there are none."""
        return None if self._local_mask is None else self._local_mask.all()

    @property
    def nbytes(self) -> int:
        """Bytes of the embeddings in the file."""
        return self._embeddings.nbytes

    @property
    def mapped(self) -> bool:
        """Whether embeddings are read from the file when they are asked for, as most are."""
        return self._embeddings.mapped

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The embeddings from `start` to `stop` (b, d), mapped, in the stored dtype."""
        return self._embeddings[start:stop]

    def read_local(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The embeddings of parts from item `start` to `stop` (b, t, d), and the mask (b, t).

        Raises UserError if the memory has none.
        """
        local, mask = self._parts()
        return local[start:stop], mask[start:stop]

    def rows(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Copies of the embeddings at `rows`, (len(rows), d), in the stored dtype."""
        return self._embeddings.take(rows)

    def tensor(self, rows: NDArray[np.integer[Any]] | None = None) -> Float[torch.Tensor, "n d"]:
        """All embeddings, or those at `rows`, as a float32 tensor of unit rows in RAM."""
        import torch

        count = len(self) if rows is None else len(rows)
        unit = torch.empty(count, self.dimension, dtype=torch.float32)
        step = max(1, _CACHED // self.dimension)
        for start in range(0, count, step):
            stop = start + step
            place = slice(start, stop)
            stored = np.array(self._embeddings[place]) if rows is None else self.rows(rows[place])
            block = torch.from_numpy(stored).float()
            unit[start:stop] = torch.nn.functional.normalize(block, dim=-1)
        return unit

    def local_tensors(
        self, rows: NDArray[np.integer[Any]]
    ) -> tuple[Float[torch.Tensor, "n t d"], Bool[torch.Tensor, "n t"]]:
        """Embeddings of the parts of the items at `rows`, float32, and which there are.

        Raises UserError if the memory has none.
        """
        import torch

        local, mask = self._parts()
        parts = torch.from_numpy(local.take(rows).astype(np.float32))
        present = torch.from_numpy(mask.take(rows).astype(bool))
        return torch.nn.functional.normalize(parts, dim=-1), present

    def item_path(self, row: int) -> Path | None:
        """The file that was embedded at `row`, or None if it was not a file."""
        root = self.header.root
        return None if root is None else Path(root) / self.items[row]

    def verify(self) -> None:
        """Raise UserError if the content does not match the fingerprint."""
        digest = xxhash.xxh3_128(np.ascontiguousarray(self.embeddings).data)
        if self.local is not None and self.local_mask is not None:
            digest.update(np.ascontiguousarray(self.local).data)
            digest.update(np.ascontiguousarray(self.local_mask).data)
        found = seal(digest, self.header, self.columns)
        if found != self.fingerprint:
            raise UserError(
                f"{self.path} is damaged, its content has fingerprint {found} and was written with "
                f"{self.fingerprint}: {DAMAGED}"
            )

    def _parts(self) -> tuple[CheckedArray, CheckedArray]:
        if self._local is None or self._local_mask is None:
            raise UserError(f"{self.path} has no local embeddings: extract it again with --local")
        return self._local, self._local_mask
