"""What an extraction is to make: its items, its memory's header, and what identifies it.

A plan decides whether an unfinished output may be continued, and whether a finished one is the
end of the same extraction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import xxhash

from features.errors import UserError
from features.extraction.items import Item, Items, Source
from features.extraction.shards import Shard
from features.file_states import digest_of
from features.memories.memory import MemoryHeader, StoredDtype
from features.memories.provenance import for_modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.encoders import Encoder
    from features.space import Modality


@dataclass(frozen=True)
class Job:
    """What decides the output's bytes, and where they go."""

    source: Source
    encoder: Encoder
    modality: Modality
    out: Path
    batch_size: int
    dtype: StoredDtype
    local: bool
    shard: Shard | None = None

    @cached_property
    def items(self) -> Sequence[Item]:
        """The source's items, or those of the shard."""
        items = self.source.items
        return items if self.shard is None else items[self.shard.rows(len(items), self.batch_size)]

    @property
    def batches(self) -> int:
        """How many batches the items make."""
        return -(-len(self.items) // self.batch_size)

    def batch(self, number: int) -> Sequence[Item]:
        """The items of batch `number`, counted from 0."""
        start = number * self.batch_size
        return self.items[start : start + self.batch_size]

    @cached_property
    def header(self) -> MemoryHeader:
        """The output's header, but for the plan."""
        root = self.source.root
        return MemoryHeader(
            space=self.encoder.space.name,
            modality=self.modality,
            dimension=self.encoder.space.dimension,
            dtype=self.dtype,
            encoder=for_modality(self.encoder.description.as_dict(), self.modality),
            root=None if root is None else str(root),
            local_length=_local_length(self.encoder, self.modality) if self.local else 0,
        )

    @cached_property
    def plan(self) -> dict[str, Any]:
        items = Items.of(self.source.items)
        return {
            "encoder": self.encoder.description.as_dict(),
            "modality": self.modality,
            "batch_size": self.batch_size,
            "dtype": self.dtype,
            "local": self.header.local_length,
            "root": None if self.source.root is None else str(self.source.root),
            "items": len(items),
            "source": items.digest(),
            "columns": list(self.source.columns),
        }

    @cached_property
    def started_plan(self) -> dict[str, Any]:
        """The plan of an unfinished output, which files that were changed cannot continue."""
        own = {} if self.shard is None else {"shard": str(self.shard)}
        return {**self.plan, **own, "files": digest_of(self.file_states)}

    @property
    def made_by(self) -> dict[str, Any]:
        """What the memory says of its extraction: the plan of all shards, and which it is."""
        own = {} if self.shard is None else {"shard": [self.shard.number, self.shard.of]}
        return {"plan": self.plan_digest, **own}

    @cached_property
    def file_states(self) -> NDArray[np.int64]:
        """Size and time of the last change, in nanoseconds, of every file (n, 2)."""
        return replace(self.source, items=self.items).file_states()

    def changed_after(self, moment: int) -> int:
        """How many files were changed after `moment`, in nanoseconds.

        Times of files may lie in the future, from a camera or another machine's clock. No clock but
        the system's own sets when it last touched them.
        """
        if self.source.root is None:  # sentences
            return 0
        later = np.flatnonzero(self.file_states[:, 1] > moment).tolist()
        paths = (self.source.root / self.items[row].value for row in later)
        return sum(path.stat().st_ctime_ns > moment for path in paths)

    @property
    def plan_digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(json.dumps(self.plan, sort_keys=True).encode())

    @property
    def partial_folder(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def failures_path(self) -> Path:
        return self.out.with_suffix(".failures.jsonl")


@dataclass(frozen=True)
class Arguments(Sequence[Sequence[str | Path]]):
    """What the input function takes for each batch from `first` on, made when it is asked for."""

    job: Job
    first: int = 0

    def __len__(self) -> int:
        return self.job.batches - self.first

    @overload
    def __getitem__(self, place: int) -> list[str | Path]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sequence[str | Path]]: ...
    def __getitem__(self, place: int | slice) -> Sequence[Any]:
        places = range(self.first, self.job.batches)[place]
        if isinstance(places, int):
            return [self.job.source.load_argument(item) for item in self.job.batch(places)]
        if places[-1:] == range(self.job.batches)[-1:] and places.step == 1:
            return Arguments(self.job, places.start)
        return [self[one - self.first] for one in places]


def _local_length(encoder: Encoder, modality: Modality) -> int:
    from features.encoders import LocalEncoder

    length = encoder.local_length(modality) if isinstance(encoder, LocalEncoder) else 0
    if not length:
        raise UserError(
            f"the encoder {encoder.description.name} has no local embeddings of {modality}: leave "
            "--local out"
        )
    return length
