"""From memories to the aligned rows that training draws its batches from.

Axes: n training items; each space has its own dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bridge.config import TrainSettings
from bridge.projector import Projector
from bridge.pseudo_pairs.origin import Origin
from bridge.pseudo_pairs.tables import around_leaf, concatenated, hub_centred
from bridge.tcl.items import ItemsOf, items_of
from bridge.training.distributed import ALONE, Ranks
from bridge.training.leaf_rows import LeafRows, check_resident, leaf_rows, loaded, mean_of
from bridge.training.requirements import check_requirements
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.provenance import check_encoders
from features.progress import SILENT, Progress
from features.space import Modality
from features.tasks import Tasks

MIN_ITEMS = 2


@dataclass(frozen=True)
class CheckedMemories:
    """Checked memories: the two hub memories aligned row by row, and the leaves there are.

    hub_rows: for every hub memory, which of its rows are used, in the common order.
    """

    hub: tuple[Memory, Memory]
    hub_rows: tuple[NDArray[Any], NDArray[Any]]
    leaf: dict[str, list[Memory]]

    @property
    def spaces(self) -> tuple[str, str]:
        """Names of the two spaces."""
        return self.hub[0].space, self.hub[1].space

    @property
    def items(self) -> int:
        """Number of hub items that both spaces have."""
        return len(self.hub_rows[0])


@dataclass(frozen=True)
class FrozenRows:
    """The memories' rows on the device.

    hub: by space, the same items in the same order. held_out: hub rows that training never sees,
    alike. leaf: by space, if it has one; it may be on the disk. modalities, items: by space and
    role. origin: the memories that they come from, if they do. tasks: where pseudo pairs of leaf
    memories on the disk are retrieved, if not in this process. ranks: the processes that train on
    them together.
    """

    hub: dict[str, Tensor]
    held_out: dict[str, Tensor]
    leaf: dict[str, LeafRows]
    modalities: dict[str, dict[str, Modality]]
    items: ItemsOf = field(default_factory=dict)
    origin: Origin | None = None
    tasks: Tasks | None = None
    ranks: Ranks = ALONE

    def centre(self, projector: Projector, space: str, means: str) -> None:
        """Set the projector's offsets: `none`, the mean of the `hub`, or of each `modality`."""
        if means == "none":
            return
        projector.centre_on(self.hub[space])
        if means == "modality":
            for role, modality in self.modalities[space].items():
                rows = self.leaf[space] if role == "leaf" else self.hub[space]
                projector.centre_on(mean_of(rows)[None], modality)

    def centred_modalities(self, space: str, means: str) -> tuple[Modality, ...]:
        """Those whose means a projector keeps."""
        return tuple(self.modalities[space].values()) if means == "modality" else ()


@dataclass(frozen=True)
class TrainingSet:
    """Rows by space and role (`hub`, `leaf`), all spaces in the same order of items.

    frozen: what they were made from.
    """

    rows: dict[str, dict[str, Tensor]]
    frozen: FrozenRows

    def __len__(self) -> int:
        return len(next(iter(self.rows.values()))["hub"])


def check_memories(
    hub: Sequence[Memory],
    leaf: Sequence[Memory],
    *,
    paired: bool = False,
    align: bool = False,
    trust_encoder: bool = False,
) -> CheckedMemories:
    """Check that memories fit together, and align the hub memories by their ids.

    paired: `hub` holds true pairs of different modalities instead of one shared modality.
    align: where the hub ids differ, use those that match.
    trust_encoder: accept memories of one space from different encoders.
    Raises UserError that says what does not fit.
    """
    if len(hub) != 2 or hub[0].space == hub[1].space:
        given = ", ".join(f"{memory.path} ({memory.space})" for memory in hub) or "none"
        raise UserError(
            f"a bridge needs two hub memories, of two different spaces, but got {given}: embed "
            "the same items with both encoders and give both memories; of two models of one "
            "family, name the space of one otherwise with an option of its encoder, space=NAME"
        )
    first, second = hub
    if not paired and first.modality != second.modality:
        raise UserError(
            f"the hub memories hold {first.modality} in {first.space} and {second.modality} in "
            f"{second.space}: give one modality embedded in both spaces, or true pairs with "
            "--pairs"
        )
    leaves: dict[str, list[Memory]] = {first.space: [], second.space: []}
    for memory in leaf:
        if memory.space not in leaves:
            raise UserError(
                f"the leaf memory {memory.path} is of the space {memory.space} but the hub joins "
                f"{first.space} and {second.space}: give leaf memories of these spaces"
            )
        leaves[memory.space].append(memory)
    for memories in leaves.values():
        check_joinable(memories, trust_encoder=trust_encoder)
        _refuse_twice(memories)
    for memory in leaf:
        hub_memory = first if memory.space == first.space else second
        check_joinable([hub_memory, memory], same_modality=False, trust_encoder=trust_encoder)
        if memory.modality == hub_memory.modality:
            raise UserError(
                f"the leaf memory {memory.path} holds {memory.modality}, as the hub memory "
                f"{hub_memory.path} does: give one of a modality that only {memory.space} knows"
            )
    return CheckedMemories((first, second), _align(first, second, align=align), leaves)


def check_joinable(
    memories: Sequence[Memory], *, same_modality: bool = True, trust_encoder: bool = False
) -> None:
    """Raise UserError unless the memories are of one space and encoder (and modality)."""
    for other in memories[1:]:
        first = memories[0]
        mine, others = f"{first.space}, {first.dimension}-d", f"{other.space}, {other.dimension}-d"
        if same_modality:
            mine, others = f"{first.modality} in {mine}", f"{other.modality} in {others}"
        if mine != others:
            raise UserError(
                f"{first.path} ({mine}) and {other.path} ({others}) cannot be used as one memory: "
                "give memories of the same space and modality"
            )
        check_encoders(
            (str(first.path), first.header.encoder),
            (str(other.path), other.header.encoder),
            remedy="extract both with one encoder",
            trust=trust_encoder,
        )


def _refuse_twice(memories: Sequence[Memory]) -> None:
    paths: dict[str, Memory] = {}
    for memory in memories:
        same = paths.setdefault(memory.fingerprint, memory)
        if same is not memory:
            raise UserError(
                f"{same.path} and {memory.path} hold the same embeddings: give each memory once"
            )


def _align(first: Memory, second: Memory, *, align: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    common = [name for name in first.ids if name in second.row_of]
    complete = len(common) == len(first) == len(second)
    if len(common) < MIN_ITEMS or not (complete or align):
        remedy = (
            "pass --align to train on those that match"
            if len(common) >= MIN_ITEMS
            else "the same item must have the same id in both: name a common key with --id-column"
        )
        raise UserError(
            f"{len(common)} ids match between the {len(first)} items of {first.path} and the "
            f"{len(second)} of {second.path}: {remedy}"
        )
    return (
        np.array([first.row_of[name] for name in common], dtype=np.intp),
        np.array([second.row_of[name] for name in common], dtype=np.intp),
    )


def load_rows(
    sources: CheckedMemories,
    *,
    holdout: float,
    seed: int,
    device: torch.device,
    stream: str = "auto",
    cache: bool = False,
    tasks: Tasks | None = None,
    ranks: Ranks = ALONE,
) -> FrozenRows:
    """Load the memories onto `device`, leaves as `leaf_rows` says, and hold hub items out.

    cache: keep pseudo pairs beside the leaf memories, and use those that are kept. tasks: where
    pseudo pairs are retrieved from leaf memories on the disk; all are left there. ranks: the
    processes that train on them together.
    """
    hub = {
        memory.space: F.normalize(memory.tensor(rows).to(device), dim=-1)
        for memory, rows in zip(sources.hub, sources.hub_rows, strict=True)
    }
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(sources.items, generator=generator)
    held = int(sources.items * holdout)
    held = held if held >= MIN_ITEMS and sources.items - held >= MIN_ITEMS else 0
    leaf = leaf_rows(sources.leaf, device, stream if tasks is None else "always")
    kept = order[held:].sort().values
    used = [rows[kept.numpy()] for rows in sources.hub_rows]
    items = items_of(sources.hub, sources.hub_rows, sources.leaf, kept.numpy())
    return FrozenRows(
        hub={space: rows[kept.to(device)] for space, rows in hub.items()},
        held_out={space: rows[order[:held].to(device)] for space, rows in hub.items()},
        leaf=leaf,
        modalities={
            space: {role: one.modality for role, one in roles.items()}
            for space, roles in items.items()
        },
        items=items,
        origin=Origin.of(sources.hub, used, sources.leaf, keep=cache),
        tasks=tasks,
        ranks=ranks,
    )


def build_training_set(
    frozen: FrozenRows, settings: TrainSettings, *, progress: Progress = SILENT
) -> TrainingSet:
    """Retrieve the pseudo pairs that the settings ask for.

    Raises UserError if the memories lack what the settings need.
    """
    hub, leaf = frozen.hub, frozen.leaf
    check_requirements(settings, hub, leaf)
    check_resident(settings, leaf)
    if settings.kind == "distil":  # its targets come from the memories themselves
        tables = {space: {"hub": hub[space], "leaf": loaded(leaf)[space]} for space in hub}
        return TrainingSet(tables, frozen)
    assert settings.pseudo_pairs != "each"  # its projectors have training sets of their own
    parts = []
    if settings.pseudo_pairs in ("hub", "all"):
        parts.append(hub_centred(frozen, settings, progress))
    if settings.pseudo_pairs in ("leaf", "all"):
        parts += [around_leaf(space, frozen, settings, progress) for space in leaf]
    return TrainingSet(concatenated(parts), frozen)
