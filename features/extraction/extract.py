"""Extraction: a source through an encoder into a memory, without losing anything.

Items go in batches of fixed composition, so that an extraction that was stopped and
continued embeds every item in the same company and ends with the same bytes as one that
was not. See `features.extraction.partial` for what survives a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.errors import UserError
from features.extraction.decode_batches import decode_batches
from features.extraction.embed import EmbeddedBatch, embed_batch
from features.extraction.items import Items, Source
from features.extraction.job import Arguments, Job
from features.extraction.partial import (
    Failure,
    Partial,
    continues,
    discard,
    has_plan,
    read_failures,
    write_failures,
)
from features.extraction.shards import Shard
from features.files import refuse_folder
from features.memories.memory import Columns, Memory, StoredDtype
from features.memories.writing import write_memory
from features.progress import SILENT, Progress

if TYPE_CHECKING:
    from features.encoders import Encoder
    from features.extraction.embed import Engine
    from features.space import Modality


@dataclass(frozen=True)
class Extraction:
    """What an extraction made: the memory, and the items that could not be embedded."""

    memory: Memory
    failures: Sequence[Failure]
    failures_path: Path
    resumed_from: int  # items that an earlier run had finished


def extract(
    source: Source,
    encoder: Encoder,
    modality: Modality,
    out: str | Path,
    *,
    batch_size: int = 256,
    dtype: StoredDtype = "float16",
    workers: int | None = None,
    item_timeout: float | None = None,
    max_failures: int | None = None,
    local: bool = False,
    shard: Shard | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Extraction:
    """Embed every item of `source` into the memory `out`.

    workers: decoding processes; 0 decodes in this one, None takes what the files are worth.
    item_timeout: seconds after which an item that is still being decoded has failed; 0 for none.
    Unset, 300 s, in workers.
    engine: what decodes and embeds instead of this process and its workers.
    local: also embed each item's parts (patches, windows), if the encoder can.
    shard: embed only this part of the items, into `shard.path(out)`;
    `features.memories.merging` joins all. One that is finished is kept, as with `resume`.
    max_failures: stop, keeping what is done, once more items than this have failed.
    resume: accept a finished output of the same extraction instead of refusing it. One that
    is unfinished is always continued.
    Raises UserError if the output exists, no item can be embedded, or too many fail.
    """
    encoder.space.require(modality)
    encoder.input(modality)  # before its description is read, which may be complete only then
    path = Path(out) if shard is None else shard.path(Path(out))
    job = Job(source, encoder, modality, path, batch_size, dtype, local, shard)
    refuse_folder(job.out)
    if job.out.exists() and not overwrite:
        return _finished(job, resume=resume or shard is not None)
    if (
        overwrite
        and job.partial_folder.exists()
        and not continues(job.partial_folder, job.started_plan)
    ):
        discard(job.partial_folder)
    partial = Partial(job.partial_folder, job.started_plan, job.header.row_dtype().itemsize)
    done = min(partial.batches * batch_size, len(job.items))
    try:
        with progress.task(f"extract {job.out.name}", len(job.items), done=done) as advance:
            _embed_rest(job, partial, workers, item_timeout, engine, max_failures, advance)
        memory = _finish(job, partial)
    finally:
        partial.close()
    partial.remove()
    return Extraction(memory, partial.failures, job.failures_path, done)


def _embed_rest(
    job: Job,
    partial: Partial,
    workers: int | None,
    item_timeout: float | None,
    engine: Engine | None,
    max_failures: int | None,
    advance: Callable[[int], None],
) -> None:
    first = partial.batches
    _check_failures(partial, max_failures)
    if engine is None:
        embedded = _embedded_here(job, first, workers, item_timeout, begun=partial.continued)
    else:
        embedded = engine.embed(job, first)
    with closing(embedded):
        for number, (rows, reasons) in zip(range(first, job.batches), embedded, strict=True):
            batch = job.batch(number)
            failures = [Failure(batch[i].id, batch[i].value, reasons[i]) for i in sorted(reasons)]
            partial.commit(rows, failures)
            advance(len(batch))
            _check_failures(partial, max_failures)


def _embedded_here(
    job: Job, first: int, workers: int | None, item_timeout: float | None, *, begun: bool
) -> Generator[EmbeddedBatch]:
    decoded_batches = decode_batches(
        job.encoder.input(job.modality), Arguments(job, first), workers=workers,
        item_timeout=item_timeout, begun=begun,
    )  # fmt: skip
    with closing(decoded_batches):
        for decoded in decoded_batches:
            yield embed_batch(job.encoder, decoded, job.header)


def _check_failures(partial: Partial, max_failures: int | None) -> None:
    if max_failures is not None and len(partial.failures) > max_failures:
        last = partial.failures[-1]
        raise UserError(
            f"{len(partial.failures)} items failed, more than --max-failures {max_failures}; the "
            f"last is {last.item}: {last.reason}. Mend them and start again with --overwrite, or "
            "run the same command with a higher limit to continue"
        )


def _finish(job: Job, partial: Partial) -> Memory:
    failed = {failure.id for failure in partial.failures}
    kept = Items.of(job.items)
    if failed:
        good = [row for row, name in enumerate(kept.ids) if name not in failed]
        kept = kept.take(np.array(good, dtype=np.intp))
    write_failures(job.failures_path, partial.failures)
    if not kept and job.shard is None:
        partial.remove()
        first = partial.failures[0]
        raise UserError(
            f"none of the {len(partial.failures)} items could be embedded; the first, "
            f"{first.item}: {first.reason}. Check the source and --modality"
        )
    header = replace(job.header, extra=job.made_by)
    columns = Columns(
        ids=kept.ids,
        items=kept.values,
        labels=kept.labels,
        metadata=dict(zip(job.source.columns, kept.metadata, strict=True)),
    )
    dtype = header.row_dtype()
    parts = ((block["local"], block["mask"]) for block in partial.stored(dtype))
    return write_memory(
        job.out,
        header,
        columns,
        (block["pooled"] for block in partial.stored(dtype)),
        local=parts if header.local_length else (),
        may_be_empty=job.shard is not None,
        overwrite=True,
    )


def _finished(job: Job, *, resume: bool) -> Extraction:
    """An output that is there already: the end of this extraction, or somebody else's."""
    # A run that was killed after writing the memory leaves its folder: the work is done.
    # What was being deleted has lost its plan already.
    folder = job.partial_folder
    leftover = continues(folder, job.started_plan) or (folder.exists() and not has_plan(folder))
    if not (resume or leftover):
        raise UserError(
            f"{job.out} exists: pass --overwrite to make it again, --resume to keep it if it is "
            "the result of this command, or choose another output"
        )
    memory = Memory(job.out)
    if memory.header.extra != job.made_by:
        raise UserError(
            f"{job.out} was made from another source, encoder or setting than this command's: "
            "pass --overwrite to replace it, or choose another output"
        )
    newer = job.changed_after(job.out.stat().st_mtime_ns)
    if newer:
        raise UserError(
            f"{newer} files were changed after {job.out} was made from them: pass --overwrite to "
            "make it again"
        )
    if leftover:
        discard(job.partial_folder)
    failures = read_failures(job.failures_path)
    return Extraction(memory, failures, job.failures_path, len(memory) + len(failures))
