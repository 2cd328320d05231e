"""Joining memories: the shards of one extraction into what one run would have made, or others.

Axes: n items, d dimensions.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.exchange.join import join
from features.extraction.partial import Failure, read_failures, write_failures
from features.files import refuse_existing
from features.memories.memory import Columns, Memory
from features.memories.provenance import differing, side_by_side
from features.memories.sealing import as_column
from features.memories.strings import StringColumn
from features.memories.writing import write_memory
from features.progress import SILENT, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.progress import Advance

_BLOCK_BYTES = 16 << 20


def merge(
    memories: Sequence[Memory],
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> tuple[Memory, list[Failure]]:
    """Join memories into the memory `out`, and say what failed in shards of an extraction.

    Shards are joined in the order of the source, whatever the order here: the result has the
    bytes of an extraction in one run, and its list of failures. Other memories are joined in the
    order given; they must be of one space, modality, encoder and kind of embeddings. One that is
    there as shards only counts as one memory; alone, its shards are joined.
    Raises UserError if a shard is missing, there twice or of another extraction, memories do not
    fit together, an id appears twice, one is damaged, or the output exists.
    """
    out = Path(out)
    refuse_existing(out, overwrite=overwrite)
    memories = list(memories)
    if not memories:
        raise UserError("there is nothing to merge: name shards or memories")
    if len(memories) == 1:
        memories = list(memories[0].parts)
    for memory in memories:
        if out.exists() and any(out.samefile(part.path) for part in memory.parts):
            raise UserError(f"{out} is one of the memories to merge: choose another output")
    sharded = [one for one in memories if "shard" in one.header.extra]
    if sharded:
        memories = in_order(memories)
    check_alike(memories)
    roots, root = roots_of(memories)
    extra = memories[0].header.extra
    kept = ("plan",) if sharded else ("bridge", "projected_from")
    header = replace(
        memories[0].header, root=root, extra={name: extra[name] for name in kept if name in extra}
    )
    columns = _columns(memories, roots)
    failures = [one for memory in memories for one in read_failures(_failures_path(memory.path))]
    if sharded:  # before the memory, which is then the last of the two
        write_failures(_failures_path(out), failures)
    with progress.task(f"merge {out.name}", len(columns.ids)) as advance:
        made = write_memory(
            out,
            header,
            columns,
            _rows(memories, advance),
            local=_parts(memories) if header.local_length else (),
            checked=bool(sharded),
            overwrite=overwrite,
        )
    return made, failures if sharded else []


def _failures_path(memory: Path) -> Path:
    return memory.with_suffix(".failures.jsonl")


def in_order(memories: Sequence[Memory]) -> list[Memory]:
    """All shards of one extraction, each once, in order.

    Raises UserError if others are among them, or a
    shard is missing, there twice, or of another extraction.
    """
    sharded = [one for one in memories if "shard" in one.header.extra]
    if len(sharded) < len(memories):
        other = next(one for one in memories if "shard" not in one.header.extra)
        raise UserError(
            f"{sharded[0].path} is a shard and {other.path} is not: merge the shards first"
        )
    plans = {(one.header.extra["plan"], one.header.extra["shard"][1]): one for one in sharded}
    if len(plans) > 1:
        one, other = list(plans.values())[:2]
        raise UserError(
            f"{one.path} and {other.path} are shards of different extractions (another source, "
            "encoder, setting or number of shards): name those of one, or make them again"
        )
    of = sharded[0].header.extra["shard"][1]
    numbers = Counter(one.header.extra["shard"][0] for one in sharded)
    twice = [number for number in numbers if numbers[number] > 1]
    if twice:
        paths = [str(one.path) for one in sharded if one.header.extra["shard"][0] == twice[0]]
        raise UserError(f"shard {twice[0]} of {of} is there twice: {' and '.join(paths[:2])}")
    missing = [number for number in range(1, of + 1) if not numbers[number]]
    if missing:
        raise UserError(
            f"{len(missing)} of {of} shards are missing ({_some(missing)}): run the same "
            f"`mcr extract` with --shard {missing[0]}/{of}"
            + (" and so on" if len(missing) > 1 else "")
        )
    return sorted(sharded, key=lambda one: int(one.header.extra["shard"][0]))


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", .." if len(numbers) > 8 else "")


def check_alike(memories: Sequence[Memory]) -> None:
    """Raise UserError unless the memories are of one space, modality, encoder and kind."""
    first = memories[0]
    for memory in memories[1:]:
        for name, one, other in _traits(first, memory):
            if one != other:
                raise UserError(
                    f"{first.path} has {name} {one} and {memory.path} has {name} {other}: memories "
                    "that are merged are of one kind"
                )
        different = differing(first.header.encoder, memory.header.encoder)
        if different:
            raise UserError(
                f"{first.path} and {memory.path} are of different encoders "
                f"({' and '.join(different)}): embed both with one",
                details=side_by_side(
                    (first.path.name, first.header.encoder),
                    (memory.path.name, memory.header.encoder),
                ),
            )


def _traits(one: Memory, other: Memory) -> Iterator[tuple[str, object, object]]:
    for name in ("space", "modality", "dimension", "dtype", "local_length"):
        yield name, getattr(one.header, name), getattr(other.header, name)
    for name in ("bridge", "projected_from"):
        yield name, one.header.extra.get(name), other.header.extra.get(name)
    yield "files" if one.header.root else "items", bool(one.header.root), bool(other.header.root)
    yield "columns", sorted(one.metadata), sorted(other.metadata)


def roots_of(memories: Sequence[Memory]) -> tuple[list[str], str | None]:
    """What goes before the items of each, and the folder that all are relative to."""
    roots = [memory.header.root for memory in memories]
    if len(set(roots)) == 1:
        return [""] * len(memories), roots[0]
    common = os.path.commonpath([str(root) for root in roots])
    relative = [Path(str(root)).relative_to(common).as_posix() for root in roots]
    return ["" if one == "." else f"{one}/" for one in relative], common


def _columns(memories: Sequence[Memory], prefixes: Sequence[str]) -> Columns:
    items: StringColumn | None = None
    if any(prefixes) or any(memory.items is not memory.ids for memory in memories):
        items = join(
            [
                StringColumn.of(prefix + item for item in memory.items)
                if prefix
                else as_column(memory.items)
                for memory, prefix in zip(memories, prefixes, strict=True)
            ]
        )
    labels = [memory.labels for memory in memories if len(memory)]
    return Columns(
        join([as_column(memory.ids) for memory in memories]),
        items,
        None if None in labels else join([as_column(one) for one in labels if one is not None]),
        {
            name: join([as_column(memory.metadata[name]) for memory in memories])
            for name in memories[0].metadata
        },
    )


def _rows(memories: Sequence[Memory], advance: Advance) -> Iterator[NDArray[Any]]:
    """The embeddings of all, none of which is damaged."""
    for memory in memories:
        if not memory.checksums:
            memory.verify()  # of an earlier version: nothing else tells
        for start, stop in _blocks(memory, memory.dimension):
            yield memory.read(start, stop)
            advance(stop - start)


def _parts(memories: Sequence[Memory]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for memory in memories:
        for start, stop in _blocks(memory, memory.dimension * memory.header.local_length):
            yield memory.read_local(start, stop)


def _blocks(memory: Memory, values: int) -> Iterator[tuple[int, int]]:
    """Runs of rows, of so many values each, that are read together."""
    step = max(1, _BLOCK_BYTES // max(1, values * np.dtype(memory.header.dtype).itemsize))
    for start in range(0, len(memory), step):
        yield start, min(len(memory), start + step)
