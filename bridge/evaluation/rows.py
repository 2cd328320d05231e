"""Memories as rows that can be compared: in a bridge's shared space, or in the one they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bridge.artefact import Bridge
from bridge.projection import in_shared_space, is_projected
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.provenance import check_encoders, for_modality
from features.space import Modality


def comparable_rows(
    bridge: Bridge | None, memories: Sequence[Memory], *, trust_encoder: bool = False
) -> list[Float[Tensor, "n e"]]:
    """Unit rows of each memory, on the CPU.

    bridge: None if all memories are of one space. Raises UserError if they are not, or the bridge
    does not join their spaces.
    """
    if bridge is not None:
        return [in_shared_space(bridge, one, trust_encoder=trust_encoder).cpu() for one in memories]
    check_one_space(memories, trust_encoder=trust_encoder)
    return [memory.tensor() for memory in memories]


def check_one_space(memories: Sequence[Memory], *, trust_encoder: bool = False) -> None:
    """Raise UserError unless all memories are of one space and one encoder."""
    first = memories[0]
    for other in memories[1:]:
        maker, its = (one.header.extra.get("bridge") for one in (first, other))
        if (first.space, first.dimension, maker) != (other.space, other.dimension, its):
            raise UserError(
                f"{first.path} is of the space {first.space} ({first.dimension}-d) and "
                f"{other.path} of {other.space} ({other.dimension}-d), which cannot be compared: "
                "name the bridge that joins them with --bridge"
            )
        if maker is None and not is_projected(other):
            check_encoders(
                (str(first.path), _as_of(first, other.modality)),
                (str(other.path), other.header.encoder),
                remedy="extract both with one encoder",
                trust=trust_encoder,
            )


def _as_of(memory: Memory, modality: Modality) -> Mapping[str, Any]:
    """The memory's encoder as a memory of another modality would describe it."""
    known = memory.header.encoder
    return for_modality(known, modality) if known else known
