"""The nearest items of a memory by exact search, projected on the way where that is needed.

Axes: q queries, n items, e dimensions of the space that is searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.artefact import Bridge
from bridge.projection import BLOCK, project_all
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.row_parts import RowsPart, row_parts
from features.memories.sharded import ShardedMemory
from features.memories.streamed_rows import StreamedRows
from features.search.in_parts import nearest_in_memory, nearest_in_parts
from features.search.nearest import nearest
from features.space import Modality
from features.tasks import Tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORTH_A_GPU = 32  # queries


def nearest_items(
    queries: Float[Tensor, "q e"],
    memory: Memory,
    k: int,
    bridge: Bridge | None,
    *,
    tasks: Tasks | None = None,
    kept: Int[NDArray[np.int64], " p"] | None = None,
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Cosines and rows of the k nearest items, best first; fewer if there are fewer.

    bridge: that projects the memory; None searches it as it is. tasks: where parts of it are
    searched. Shards are searched in parts in any case, of which one at a time is held. kept: the
    only rows that are searched, in ascending order; all unless given.
    Raises UserError if the bridge is on a device that tasks do not have.
    """
    asked = queries.float()
    if tasks is None and not isinstance(memory, ShardedMemory):
        # For a few queries the memory is not worth bringing to a GPU.
        if not (queries.device.type == "cuda" and len(queries) >= _WORTH_A_GPU):
            asked = asked.cpu()
        return _nearest_of(asked, memory, k, bridge, kept)
    if tasks is not None and bridge is not None and bridge.device.type != "cpu":
        raise UserError(
            "--shard-processes and --engine ray search on processors but the bridge is on "
            f"{bridge.device}: choose --device cpu, or leave them out"
        )
    if bridge is None:
        return nearest_in_memory(asked, memory, k, tasks=tasks, kept=kept)
    read = _Projected(bridge, memory.space, memory.modality)
    parts = row_parts([memory], BLOCK)
    return nearest_in_parts(asked, parts, read, k, unit=False, tasks=tasks, kept=kept)


def _nearest_of(
    queries: Tensor, memory: Memory, k: int, bridge: Bridge | None, kept: NDArray[np.int64] | None
) -> tuple[Tensor, Tensor]:
    """As `nearest_items`, of all rows at once."""
    rows: Tensor | NDArray[Any]
    if bridge is not None:
        rows = project_all(bridge, memory).cpu()
        rows = rows if kept is None else rows[torch.from_numpy(kept)]
    else:
        rows = memory.embeddings if kept is None else memory.rows(kept)
    scores, found = nearest(queries, rows, k, unit=bridge is None)
    return scores, found if kept is None else torch.from_numpy(kept).to(found.device)[found]


@dataclass(frozen=True)
class _Projected:
    """Reads a part of a memory in a bridge's shared space, in the blocks of all of it."""

    bridge: Bridge
    space: str
    modality: Modality

    def __call__(self, part: RowsPart) -> Tensor:
        rows = StreamedRows(part.memories())[part.rows]
        return self.bridge.project(rows, self.space, self.modality).cpu()
