"""Checking memories, indices, bridges and trainings on disk: is all as it was written?

Everything is read once. What is found is told with what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from h5py import is_hdf5

from features.errors import UserError
from features.memories.memory import Memory
from features.memories.sealing import as_column
from features.memories.sharded import open_memory, shards_of
from features.memories.unique import first_repetition
from features.memories.writing import bad_parts, bad_rows
from features.progress import SILENT, Progress

if TYPE_CHECKING:
    from bridge.artefact import Bridge

_ROWS = 65_536  # at a time
_NAMED = 3  # items, of those that are wrong


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    state: `good`, `note` for what may be as meant, or `bad`. told: what was found, and for others
    than good what to do.
    """

    path: str
    state: Literal["good", "note", "bad"]
    told: str


def verify(path: Path, *, progress: Progress = SILENT) -> Iterator[Finding]:
    """Check a memory, an index, a bridge or training, or all of these below a folder.

    Raises UserError if there is nothing of the kind at `path`.
    """
    from bridge.runs.layout import ABOUT_FILE
    from bridge.training.checkpoint import MIXTURE_FILE, PROGRESS_FILE

    shards = shards_of(path)
    if not (path.exists() or shards):
        raise UserError(f"{path} does not exist: give a memory, an index, a bridge or a folder")
    if shards:
        yield from _shards(path, shards, progress)
    elif not path.is_dir():
        yield from _file(path, progress)
    elif (path / ABOUT_FILE).exists():
        yield from _bridge(path)
    elif any((path / name).exists() for name in (PROGRESS_FILE, MIXTURE_FILE)):
        yield from _training(path)
    else:
        yield from _folder(path, progress)


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


def _file(path: Path, progress: Progress) -> Iterator[Finding]:
    if path.suffix == ".faiss":
        yield from _index(path)
    elif path.suffix == ".h5" or is_hdf5(path):
        yield from _memory(path, progress)
    else:
        yield Finding(
            str(path), "bad",
            f"{path} is neither a memory (NAME.h5) nor an index (NAME.faiss): give one of these, a "
            "bridge's folder, or a folder of them",
        )  # fmt: skip


def _folder(path: Path, progress: Progress) -> Iterator[Finding]:
    from bridge.runs.layout import ABOUT_FILE

    bridges = sorted(file.parent for file in path.rglob(ABOUT_FILE))
    files = [
        file
        for suffix in (".h5", ".faiss")
        for file in sorted(path.rglob(f"*{suffix}"))
        if not file.name.endswith(".ids.h5")  # part of an index
        and not file.name.startswith(".")
    ]
    if not (bridges or files):
        raise UserError(
            f"{path} holds no memory, index or bridge: give the folder that `mcr extract` or "
            "`mcr train` wrote"
        )
    for file in files:
        yield from _file(file, progress)
    for folder in bridges:
        yield from _bridge(folder)


def _tried(path: Path, opened: Callable[[], Any]) -> tuple[Any, list[Finding]]:
    try:
        return opened(), []
    except UserError as error:
        return None, [Finding(str(path), "bad", str(error))]


def _memory(path: Path, progress: Progress) -> Iterator[Finding]:
    memory, failed = _tried(path, lambda: Memory(path))
    yield from failed
    if memory is None:
        return
    if not memory.checksums:
        yield Finding(
            str(path), "note",
            "it is of a version whose memories had no checksums of their parts, so that only this "
            "command notices damage: `mcr extract --overwrite` makes it anew with them",
        )  # fmt: skip
    _, failed = _tried(path, memory.verify)
    problems = failed or [*_problems(memory, progress)]
    yield from problems
    if not problems:
        yield Finding(
            str(path), "good",
            f"memory of {len(memory)} {memory.modality} items of {memory.space}: content, norms "
            "and ids are right",
        )  # fmt: skip
    yield from _beside(path)


def _shards(path: Path, shards: Sequence[Path], progress: Progress) -> Iterator[Finding]:
    """Each shard of a memory that is not merged, and whether they are all there."""
    found = [one for shard in shards for one in _memory(shard, progress)]
    yield from found
    if any(one.state == "bad" for one in found):
        return
    memory, failed = _tried(path, lambda: open_memory(path))
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
    repeated, failed = _tried(memory.path, lambda: first_repetition(as_column(memory.ids)))
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


def _index(path: Path) -> Iterator[Finding]:
    from features.search.index import open_index
    from features.search.index_files import full_checksum

    index, failed = _tried(path, lambda: open_index(path))
    yield from failed
    if index is None:
        return
    written = index.about.get("faiss_digest")
    if written is None:
        yield Finding(
            str(path), "note",
            "it was built before indices had a checksum of all of their content: build it again to "
            "have one",
        )  # fmt: skip
    elif full_checksum(path) != written:
        yield Finding(
            str(path), "bad",
            f"its content has checksum {full_checksum(path)}, it was written with {written}: "
            "rebuild it with `mcr index --overwrite`",
        )  # fmt: skip
        return
    repeated, failed = _tried(path, lambda: first_repetition(as_column(index.table.ids)))
    yield from failed
    if repeated is not None:
        yield Finding(str(path), "bad", f"its id '{index.table.ids[repeated[0]]}' is there twice")
        return
    where = Path(index.about["memory"])
    if not where.exists():
        yield Finding(
            str(path), "note",
            f"the memory {where} that it was built from is not there; it answers without it",
        )  # fmt: skip
    yield Finding(str(path), "good", f"index of {len(index)} items: its files belong together")


def _bridge(folder: Path) -> Iterator[Finding]:
    from bridge.artefact import load

    made, failed = _tried(folder, lambda: load(folder, device="cpu"))
    yield from failed
    if made is not None:
        yield from _weights(folder, made)
        yield from _trained_on(folder, made)
    yield from _written_beside(folder)


def _weights(folder: Path, made: Bridge) -> Iterator[Finding]:
    broken = [
        f"{space}/{name}"
        for space, projector in made.projectors.items()
        for name, tensor in projector.state_dict().items()
        if not bool(tensor.isfinite().all())
    ]
    if broken:
        told = f"weights that are NaN or infinite ({broken[0]}): train it again"
        yield Finding(str(folder), "bad", told)
    else:
        told = f"bridge between {' and '.join(made.spaces)}: its files belong together"
        yield Finding(str(folder), "good", told)


def _trained_on(folder: Path, made: Bridge) -> Iterator[Finding]:
    for record in made.memories:
        path = Path(record.path)
        if not (path.exists() or shards_of(path)):
            told = f"its {record.role} memory {path} is not there; it is needed to train alone"
            yield Finding(str(folder), "note", told)
            continue
        memory, failed = _tried(path, lambda path=path: open_memory(path))  # type: ignore[misc]
        yield from failed
        if memory is not None and memory.fingerprint != record.fingerprint:
            yield Finding(
                str(folder), "note",
                f"its {record.role} memory {path} is now {memory.fingerprint}, and was "
                f"{record.fingerprint} when it was trained: train again if it should follow",
            )  # fmt: skip


def _written_beside(folder: Path) -> Iterator[Finding]:
    """The curves of a training, and results of evaluations."""
    from bridge.evaluation.results import read_result
    from bridge.runs.layout import METRICS_FILE, RESULTS_FOLDER, RUN_FILE
    from bridge.runs.log import read_log
    from bridge.runs.record import read_run

    for path, opened in ((METRICS_FILE, lambda: read_log(folder / METRICS_FILE)),
                         (RUN_FILE, lambda: read_run(folder))):  # fmt: skip
        yield from _tried(folder / path, opened)[1]
    for file in sorted((folder / RESULTS_FOLDER).glob("*.json")):
        result, failed = _tried(file, lambda file=file: read_result(file))  # type: ignore[misc]
        yield from failed
        if result is not None:
            yield Finding(str(file), "good", f"result of an evaluation ({result.protocol})")


def _training(folder: Path) -> Iterator[Finding]:
    from bridge.training.checkpoint import load_checkpoint, load_weights

    _, failed = _tried(folder, lambda: (load_checkpoint(folder), load_weights(folder)))
    yield from failed
    if not failed:
        told = "a training that is not finished, its checkpoint is whole: run its command again"
        yield Finding(str(folder), "note", told)
