"""Checking bridges, and trainings that have not ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.verification.finding import Finding, tried
from features.memories.sharded import open_memory, shards_of

if TYPE_CHECKING:
    from bridge.artefact import Bridge


def verify_bridge(folder: Path) -> Iterator[Finding]:
    """A bridge, what it was trained on, and what was written beside it."""
    from bridge.artefact import load

    made, failed = tried(folder, lambda: load(folder, device="cpu"))
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
        memory, failed = tried(path, lambda path=path: open_memory(path))  # type: ignore[misc]
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
        yield from tried(folder / path, opened)[1]
    for file in sorted((folder / RESULTS_FOLDER).glob("*.json")):
        result, failed = tried(file, lambda file=file: read_result(file))  # type: ignore[misc]
        yield from failed
        if result is not None:
            yield Finding(str(file), "good", f"result of an evaluation ({result.protocol})")


def verify_training(folder: Path) -> Iterator[Finding]:
    """A training that has not ended."""
    from bridge.training.checkpoint import load_checkpoint, load_weights

    _, failed = tried(folder, lambda: (load_checkpoint(folder), load_weights(folder)))
    yield from failed
    if not failed:
        told = "a training that is not finished, its checkpoint is whole: run its command again"
        yield Finding(str(folder), "note", told)
