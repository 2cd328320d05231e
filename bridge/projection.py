"""Projecting whole memories into a bridge's shared space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from bridge.artefact import Bridge
from features.errors import UserError
from features.memories.memory import Memory, MemoryHeader
from features.memories.provenance import check_encoders
from features.memories.writing import write_memory
from features.progress import SILENT, Progress

BLOCK = 16_384  # rows


def project_memory(
    bridge: Bridge,
    memory: Memory,
    out: str | Path,
    *,
    overwrite: bool = False,
    trust_encoder: bool = False,
    progress: Progress = SILENT,
) -> Memory:
    """Write `memory`, projected, as a memory of the bridge's space; ids and labels stay.

    trust_encoder: accept a memory of another encoder than the bridge was trained with.
    Raises UserError if the bridge does not join the memory's space, the memory came from
    another encoder, or the output exists.
    """
    check_memory(bridge, memory, trust_encoder=trust_encoder)
    if is_projected(memory):
        raise UserError(
            f"{memory.path} is already projected by {bridge.name}: use it as it is, or project "
            "the memory that it came from"
        )
    header = MemoryHeader(
        space=bridge.name,
        modality=memory.modality,
        dimension=bridge.dimension,
        dtype=memory.header.dtype,
        encoder=memory.header.encoder,
        root=memory.header.root,
        extra={
            "bridge": bridge.fingerprint,
            "projected_from": memory.space,
            "projected_fingerprint": memory.fingerprint,
        },
        local_length=memory.header.local_length,
    )

    with progress.task(f"project {Path(out).name}", len(memory)) as advance:

        def batches() -> Iterator[NDArray[Any]]:
            for start in range(0, len(memory), BLOCK):
                rows = np.arange(start, min(start + BLOCK, len(memory)))
                yield (
                    bridge.project(memory.tensor(rows), memory.space, memory.modality).cpu().numpy()
                )
                advance(len(rows))

        return write_memory(
            out,
            header,
            memory.columns,
            batches(),
            local=_local(bridge, memory),
            overwrite=overwrite,
        )


def _local(bridge: Bridge, memory: Memory) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Projected embeddings of the parts, with their masks, block by block."""
    parts = memory.header.local_length
    block = max(1, BLOCK // max(1, parts))
    for start in range(0, len(memory) if parts else 0, block):
        rows = np.arange(start, min(start + block, len(memory)))
        local, mask = memory.local_tensors(rows)
        projected = (
            bridge.project(local.flatten(0, 1), memory.space, memory.modality)
            .cpu()
            .view(*mask.shape, -1)
        )
        yield (projected * mask[..., None]).numpy(), mask.numpy()


def in_shared_space(
    bridge: Bridge, memory: Memory, *, trust_encoder: bool = False
) -> Float[Tensor, "n e"]:
    """The memory's embeddings in the shared space, projected unless they are already."""
    check_memory(bridge, memory, trust_encoder=trust_encoder)
    if is_projected(memory):
        return memory.tensor().to(bridge.device)
    return project_all(bridge, memory)


def project_all(bridge: Bridge, memory: Memory) -> Float[Tensor, "n e"]:
    """The embeddings of a memory that fits the bridge and is not projected, projected."""
    blocks = range(0, len(memory), BLOCK)
    return torch.cat(
        [
            bridge.project(
                memory.tensor(np.arange(start, min(start + BLOCK, len(memory)))),
                memory.space,
                memory.modality,
            )
            for start in blocks
        ]
    )


def is_projected(memory: Memory) -> bool:
    """Whether some bridge made this memory."""
    return "bridge" in memory.header.extra


def check_memory(bridge: Bridge, memory: Memory, *, trust_encoder: bool = False) -> None:
    """Raise UserError unless the bridge joins the memory's space, or made it itself."""
    if is_projected(memory):
        made_by = memory.header.extra["bridge"]
        if made_by != bridge.fingerprint:
            raise UserError(
                f"{memory.path} was projected by another bridge ({memory.space}, {made_by}) than "
                f"{bridge.name} ({bridge.fingerprint}): project it again with `mcr project`"
            )
        return
    space = bridge.space_named(memory.space)
    if memory.dimension != space.dimension:
        raise UserError(
            f"{memory.path} holds {memory.dimension}-d embeddings of {memory.space} but the bridge "
            f"{bridge.name} was trained on {space.dimension}-d ones: extract it again with the "
            "encoder that the bridge was trained with"
        )
    check_encoders(
        (f"the space {space.name} of the bridge {bridge.name}", space.encoder),
        (str(memory.path), memory.header.encoder),
        remedy="extract it again with the encoder that the bridge was trained with",
        trust=trust_encoder,
    )
