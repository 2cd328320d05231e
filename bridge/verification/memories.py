"""Checking memories: the checksums, norms and ids, and whether hubs hold the same items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bridge.verification.finding import Finding, tried
from features.memories.memory import Memory
from features.memories.sealing import as_column
from features.memories.sharded import open_memory
from features.memories.unique import first_repetition
from features.memories.writing import bad_parts, bad_rows
from features.progress import Progress

_ROWS = 65_536  # at a time
_NAMED = 3  # items, of those that are wrong


def verify_partners(memories: Sequence[Memory]) -> Finding:
    """Whether memories, such as two of the hub, hold the same items in the same order."""
    first = memories[0]
    for memory in memories[1:]:
        differ = _difference(first, memory)
        if differ is not None:
            return Finding(
                f"{first.path} and {memory.path}", "bad",
                f"{differ}: extract both from one source, or pass --align to `mcr train`",
            )  # fmt: skip
    told = f"{len(memories)} memories of the same {len(first)} items in the same order"
    return Finding(str(first.path), "good", told)


def _difference(one: Memory, other: Memory) -> str | None:
    """In what two memories' ids differ; None if they are the same in the same order."""
    shared, (mine, theirs) = len(set(one.ids) & set(other.ids)), (len(one), len(other))
    if mine != theirs or shared < mine:
        items = f"{mine} items each" if mine == theirs else f"{mine} and {theirs} items"
        return f"of {items}, {shared} have an id that the other has too"
    row = next((i for i, name in enumerate(one.ids) if name != other.ids[i]), None)
    if row is None:
        return None
    return (
        f"they have the same {len(one)} ids in another order, from row {row} on ('{one.ids[row]}' "
        f"and '{other.ids[row]}')"
    )


def verify_memory(path: Path, progress: Progress) -> Iterator[Finding]:
    """Content, norms and ids of a memory, and what lies beside it."""
    memory, failed = tried(path, lambda: Memory(path))
    yield from failed
    if memory is None:
        return
    if not memory.checksums:
        yield Finding(
            str(path), "note",
            "it is of a version whose memories had no checksums of their parts, so that only this "
            "command notices damage: `mcr extract --overwrite` makes it anew with them",
        )  # fmt: skip
    _, failed = tried(path, memory.verify)
    problems = failed or [*_problems(memory, progress)]
    yield from problems
    if not problems:
        yield Finding(
            str(path), "good",
            f"memory of {len(memory)} {memory.modality} items of {memory.space}: content, norms "
            "and ids are right",
        )  # fmt: skip
    yield from _beside(path)


def verify_shards(path: Path, shards: Sequence[Path], progress: Progress) -> Iterator[Finding]:
    """Each shard of a memory that is not merged, and whether they are all there."""
    found = [one for shard in shards for one in verify_memory(shard, progress)]
    yield from found
    if any(one.state == "bad" for one in found):
        return
    memory, failed = tried(path, lambda: open_memory(path))
    failed = failed or [*_repeated(memory)]
    yield from failed
    if not failed:
        yield Finding(
            str(path), "good",
            f"memory of {len(memory)} {memory.modality} items of {memory.space} in {len(shards)} "
            "shards: all are there, and no id is in two",
        )  # fmt: skip
    yield from _beside(path)


def _problems(memory: Memory, progress: Progress) -> Iterator[Finding]:
    """Rows and ids that cannot be, whatever the fingerprint says."""
    wrong: dict[int, str] = {}
    with progress.task(f"verify {memory.path.name}", len(memory)) as advance:
        for start in range(0, len(memory), _ROWS):
            stop = min(len(memory), start + _ROWS)
            found = bad_rows(np.asarray(memory.read(start, stop), np.float32))
            if memory.header.local_length:
                found = bad_parts(*memory.read_local(start, stop)) | found
            wrong |= {start + row: reason for row, reason in found.items()}
            advance(stop - start)
    if wrong:
        some = "; ".join(f"'{memory.ids[row]}': {wrong[row]}" for row in sorted(wrong)[:_NAMED])
        yield Finding(
            str(memory.path), "bad", f"{len(wrong)} rows are wrong ({some}): make it again"
        )
    yield from _repeated(memory)


def _repeated(memory: Memory) -> Iterator[Finding]:
    """An id that is there twice."""
    repeated, failed = tried(memory.path, lambda: first_repetition(as_column(memory.ids)))
    yield from failed
    if repeated is not None:
        yield Finding(
            str(memory.path), "bad",
            f"the id '{memory.ids[repeated[0]]}' is that of rows {repeated[0]} and {repeated[1]}: "
            "ids are unique, make it again",
        )  # fmt: skip


def _beside(path: Path) -> Iterator[Finding]:
    from bridge.pseudo_pairs.cache import kept_pairs, pairs_are_whole

    partial = path.with_name(f"{path.name}.partial")
    if partial.exists():
        yield Finding(
            str(partial), "note",
            "an extraction that was not finished: run its command again, or delete the folder",
        )  # fmt: skip
    for kept in kept_pairs(path):
        whole = pairs_are_whole(kept)
        if whole:
            yield Finding(str(kept), "good", "kept pseudo pairs")
        else:
            yield Finding(str(kept), "bad", "damaged pseudo pairs: delete it, they are made again")
