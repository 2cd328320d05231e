"""Extraction: a source through an encoder into a memory, without losing anything.

Items go in batches of fixed composition, so that an extraction that was stopped and
continued embeds every item in the same company and ends with the same bytes as one that
was not. See `features.partial` for what survives a kill.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from features.decode_batches import decode_batches
from features.errors import ItemError, UserError
from features.files import refuse_folder
from features.memory import Columns, Memory, MemoryHeader, StoredDtype
from features.memory_write import bad_parts, bad_rows, write_memory
from features.partial import Failure, Partial, continues, discard, has_plan, write_failures
from features.progress import SILENT, Progress
from features.provenance import for_modality
from features.sources import Item, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.encoders import Encoder, LocalEncoder
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
    max_failures: int | None = None,
    local: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Extraction:
    """Embed every item of `source` into the memory `out`.

    workers: decoding processes; 0 decodes in this one, None takes what the files are worth.
    local: also embed each item's parts (patches, windows), if the encoder can.
    max_failures: stop, keeping what is done, once more items than this have failed.
    resume: accept a finished output of the same extraction instead of refusing it. One that
    is unfinished is always continued.
    Raises UserError if the output exists, no item can be embedded, or too many fail.
    """
    encoder.space.require(modality)
    encoder.input(modality)  # before its description is read, which may be complete only then
    job = _Job(source, encoder, modality, Path(out), batch_size, dtype, local)
    refuse_folder(job.out)
    if job.out.exists() and not overwrite:
        return _finished(job, resume=resume)
    if (
        overwrite
        and job.partial_folder.exists()
        and not continues(job.partial_folder, job.started_plan)
    ):
        discard(job.partial_folder)
    partial = Partial(job.partial_folder, job.started_plan, job.header.row_dtype().itemsize)
    done = min(partial.batches * batch_size, len(source.items))
    try:
        with progress.task(f"extract {job.out.name}", len(source.items), done=done) as advance:
            _embed_rest(job, partial, workers, max_failures, advance)
        memory = _finish(job, partial)
    finally:
        partial.close()
    partial.remove()
    return Extraction(memory, partial.failures, job.failures_path, done)


@dataclass(frozen=True)
class _Job:
    """What decides the output's bytes, and where they go."""

    source: Source
    encoder: Encoder
    modality: Modality
    out: Path
    batch_size: int
    dtype: StoredDtype
    local: bool

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
        digest = xxhash.xxh3_128()
        for item in self.source.items:
            told = (item.id, item.value, item.label, *item.metadata)
            digest.update(json.dumps(told).encode())
        return {
            "encoder": self.encoder.description.as_dict(),
            "modality": self.modality,
            "batch_size": self.batch_size,
            "dtype": self.dtype,
            "local": self.header.local_length,
            "root": None if self.source.root is None else str(self.source.root),
            "items": len(self.source.items),
            "source": digest.hexdigest(),
            "columns": list(self.source.columns),
        }

    @cached_property
    def started_plan(self) -> dict[str, Any]:
        """The plan of an unfinished output, which files that were changed cannot continue."""
        digest = xxhash.xxh3_128()
        for size, changed in self.file_states:
            digest.update(f"{size} {changed}\n".encode())
        return {**self.plan, "files": digest.hexdigest()}

    @cached_property
    def file_states(self) -> list[tuple[int, int]]:
        """Size and time of the last change, in nanoseconds, of every file."""
        if self.source.root is None:
            return []
        root = os.fspath(self.source.root)  # as text: Path would take as long as the disk
        return [_file_state(os.path.join(root, item.value)) for item in self.source.items]  # noqa: PTH118

    @property
    def plan_digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(json.dumps(self.plan, sort_keys=True).encode())

    @property
    def partial_folder(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def failures_path(self) -> Path:
        return self.out.with_suffix(".failures.jsonl")


def _embed_rest(
    job: _Job,
    partial: Partial,
    workers: int | None,
    max_failures: int | None,
    advance: Callable[[int], None],
) -> None:
    items, size = job.source.items, job.batch_size
    batches = [items[i : i + size] for i in range(partial.batches * size, len(items), size)]
    arguments = [[job.source.load_argument(item) for item in batch] for batch in batches]
    decoded_batches = decode_batches(job.encoder.input(job.modality), arguments, workers=workers)
    _check_failures(partial, max_failures)
    with closing(decoded_batches):
        for batch, decoded in zip(batches, decoded_batches, strict=True):
            rows, failures = _embed(job, batch, decoded)
            partial.commit(rows, failures)
            advance(len(batch))
            _check_failures(partial, max_failures)


def _check_failures(partial: Partial, max_failures: int | None) -> None:
    if max_failures is not None and len(partial.failures) > max_failures:
        last = partial.failures[-1]
        raise UserError(
            f"{len(partial.failures)} items failed, more than --max-failures {max_failures}; the "
            f"last is {last.item}: {last.reason}. Mend them and start again with --overwrite, or "
            "run the same command with a higher limit to continue"
        )


def _embed(
    job: _Job, batch: Sequence[Item], decoded: Sequence[NDArray[Any] | ItemError]
) -> tuple[NDArray[Any], list[Failure]]:
    """Rows of the batch's good items as they are stored, and the bad ones with their reasons."""
    reasons = {i: str(one) for i, one in enumerate(decoded) if isinstance(one, ItemError)}
    arrays = [one for one in decoded if not isinstance(one, ItemError)]
    kept = [i for i in range(len(batch)) if i not in reasons]
    rows = np.zeros(len(kept), dtype=job.header.row_dtype())
    bad: dict[int, str] = {}
    if arrays:
        bad = _encode_into(rows, arrays, job)
    reasons |= {kept[row]: reason for row, reason in bad.items()}
    failures = [Failure(batch[i].id, batch[i].value, reasons[i]) for i in sorted(reasons)]
    return np.delete(rows, list(bad), axis=0), failures


def _encode_into(rows: NDArray[Any], arrays: Sequence[NDArray[Any]], job: _Job) -> dict[int, str]:
    """Fill `rows` with the embeddings of `arrays`; returns the bad ones with their reasons."""
    shape = (len(rows), job.header.dimension)
    if job.header.local_length:
        encoder: LocalEncoder = job.encoder  # type: ignore[assignment]  # it has a local length
        embedded = encoder.encode_local(arrays, job.modality)
        pooled = _checked(embedded.pooled, shape, job)
        local_shape = (len(rows), job.header.local_length, job.header.dimension)
        local = _checked(embedded.local, local_shape, job)
        mask = _checked(embedded.mask, local_shape[:2], job)
        rows["local"], rows["mask"] = local, mask
        bad = bad_parts(local, mask)
    else:
        pooled, bad = _checked(job.encoder.encode(arrays, job.modality), shape, job), {}
    rows["pooled"] = pooled
    return bad | bad_rows(pooled)


def _checked(embedded: object, shape: tuple[int, ...], job: _Job) -> NDArray[np.float32]:
    import torch

    name, header = job.encoder.description.name, job.header
    if not isinstance(embedded, torch.Tensor):
        kind = type(embedded).__name__
        raise UserError(f"the encoder {name} returned a {kind}, not a Tensor: mend the encoder")
    if embedded.shape != shape:
        parts = f" with {header.local_length} parts" * bool(header.local_length)
        raise UserError(
            f"the encoder {name} returned an array {tuple(embedded.shape)} for {shape[0]} items of "
            f"dimension {header.dimension}{parts}: mend the encoder"
        )
    array: NDArray[np.float32] = embedded.float().cpu().numpy()
    return array


def _local_length(encoder: Encoder, modality: Modality) -> int:
    from features.encoders import LocalEncoder

    length = encoder.local_length(modality) if isinstance(encoder, LocalEncoder) else 0
    if not length:
        raise UserError(
            f"the encoder {encoder.description.name} has no local embeddings of {modality}: leave "
            "--local out"
        )
    return length


def _finish(job: _Job, partial: Partial) -> Memory:
    failed = {failure.id for failure in partial.failures}
    kept = [item for item in job.source.items if item.id not in failed]
    write_failures(job.failures_path, partial.failures)
    if not kept:
        partial.remove()
        first = partial.failures[0]
        raise UserError(
            f"none of the {len(partial.failures)} items could be embedded; the first, "
            f"{first.item}: {first.reason}. Check the source and --modality"
        )
    header = replace(job.header, extra={"plan": job.plan_digest})
    renamed = any(item.id != item.value for item in kept)
    labels = [item.label for item in kept if item.label is not None]
    columns = Columns(
        ids=[item.id for item in kept],
        items=[item.value for item in kept] if renamed else None,
        labels=labels if len(labels) == len(kept) else None,
        metadata={
            name: [item.metadata[place] for item in kept]
            for place, name in enumerate(job.source.columns)
        },
    )
    dtype = header.row_dtype()
    parts = ((block["local"], block["mask"]) for block in partial.stored(dtype))
    return write_memory(
        job.out,
        header,
        columns,
        (block["pooled"] for block in partial.stored(dtype)),
        local=parts if header.local_length else (),
        overwrite=True,
    )


def _finished(job: _Job, *, resume: bool) -> Extraction:
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
    if memory.header.extra.get("plan") != job.plan_digest:
        raise UserError(
            f"{job.out} was made from another source, encoder or setting than this command's: "
            "pass --overwrite to replace it, or choose another output"
        )
    made = job.out.stat().st_mtime_ns
    newer = sum(changed > made for _, changed in job.file_states)
    if newer:
        raise UserError(
            f"{newer} files were changed after {job.out} was made from them: pass --overwrite to "
            "make it again"
        )
    if leftover:
        discard(job.partial_folder)
    lines = job.failures_path.read_text().splitlines() if job.failures_path.exists() else []
    failures = [Failure(**json.loads(line)) for line in lines]
    return Extraction(memory, failures, job.failures_path, len(memory) + len(failures))


def _file_state(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns
