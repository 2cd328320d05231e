"""Leaf memories where training wants them: on the device, or on the disk where they are too large.

A leaf memory is mostly asked from: pseudo pairs, posteriors and means need each of its rows once,
in any order, so that it can be read block by block. What draws its batches from the leaf itself
needs it on the device.

Axes: m items of a leaf memory, d dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.config import TrainSettings
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.streamed_rows import StreamedRows
from features.room import free_bytes
from features.tasks import Tasks

SHARE = 0.5  # of the device's free memory, that leaf memories may take
BLOCK = 4096  # rows that are read at a time


LeafRows = Tensor | StreamedRows


def leaf_rows(
    leaf: Mapping[str, Sequence[Memory]], device: torch.device, stream: str
) -> dict[str, LeafRows]:
    """Unit rows of the leaf memories of every space that has some, one after the other.

    stream: `always` leaves them on the disk, `never` loads them, and `auto` loads those that fit
    into half of what `device` has free, the smallest first. The values are the same either way.
    """
    read = {space: StreamedRows(held, device) for space, held in leaf.items() if held}
    rows: dict[str, LeafRows] = dict(read)
    left = {"always": 0, "never": math.inf}.get(stream, SHARE * free_bytes(device))
    for space in sorted(read, key=lambda space: read[space].nbytes):
        left -= read[space].nbytes
        if left >= 0:
            rows[space] = read[space][:]
    return rows


def check_tasks(settings: TrainSettings, device: torch.device, tasks: Tasks | None) -> None:
    """Raise UserError if pseudo pairs are to be retrieved elsewhere, and the settings forbid it."""
    if tasks is None:
        return
    asked = "--shard-processes and --engine ray retrieve pseudo pairs"
    if device.type != "cpu":
        raise UserError(
            f"{asked} on processors but the device is {device}: choose --device cpu, or leave them "
            "out"
        )
    if settings.stream == "never":
        raise UserError(
            f"{asked} from memories on the disk but stream is 'never', which loads them: leave one "
            "of them out"
        )
    if settings.retrieval not in ("auto", "exact"):
        raise UserError(
            f"{asked} of all items but retrieval is '{settings.retrieval}': choose --retrieval "
            "exact, or leave them out"
        )


def check_resident(settings: TrainSettings, leaf: Mapping[str, LeafRows]) -> None:
    """Raise UserError if the settings need leaf memories in RAM that are on the disk."""
    draws = "draws batches from its rows"
    if settings.kind in ("distil", "tcl"):
        needs, remedy = f"the objective {settings.kind} {draws}", "choose the objective cmcr"
    elif settings.pseudo_pairs != "hub":
        needs, remedy = f"pseudo_pairs '{settings.pseudo_pairs}' {draws}", "set pseudo_pairs to hub"
    elif settings.retrieval == "sparse":
        needs, remedy = "retrieval 'sparse' needs all of it at hand", "set retrieval to auto"
    else:
        return
    for rows in leaf.values():
        if isinstance(rows, StreamedRows):
            paths = " and ".join(str(memory.path) for memory in rows.memories)
            raise UserError(
                f"the leaf memory {paths} would take {rows.nbytes / 1e9:.3g} GB of the device and "
                f"is left on the disk (stream is '{settings.stream}'), but {needs}: load it all "
                f"the same with --stream never, or {remedy}"
            )


def at_hand(settings: TrainSettings) -> bool:
    """Whether such a training asks leaf memories for more than pseudo pairs and means."""
    only_pairs = settings.kind in ("cmcr", "cwcl") and settings.pseudo_pairs == "hub"
    return not only_pairs or settings.retrieval == "sparse"


def loaded(leaf: Mapping[str, LeafRows]) -> dict[str, Tensor]:
    """Leaf memories that `check_resident` has seen."""
    return {space: rows for space, rows in leaf.items() if isinstance(rows, Tensor)}


def in_blocks(rows: LeafRows) -> Iterator[Float[Tensor, "b d"]]:
    """All rows in order: a tensor as it is, others so many at a time that none is much."""
    return iter([rows]) if isinstance(rows, Tensor) else rows.blocks(BLOCK)


def mean_of(rows: LeafRows) -> Float[Tensor, " d"]:
    """The mean of all rows."""
    return rows.mean(dim=0) if isinstance(rows, Tensor) else rows.mean
