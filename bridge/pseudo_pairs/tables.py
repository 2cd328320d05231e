"""Tables of training items with their pseudo pairs, centred on hub or leaf items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bridge.config import TrainSettings
from bridge.pseudo_pairs.cache import remembering
from bridge.pseudo_pairs.exact import Retriever, Rows, leaf_centred
from bridge.pseudo_pairs.retriever import index_beside, retriever
from bridge.training.distributed import Ranks
from bridge.training.leaf_rows import loaded
from features.progress import Progress

if TYPE_CHECKING:
    from bridge.training.training_set import FrozenRows
    from features.search.index import FaissIndex

Part = dict[str, dict[str, Tensor]]


def hub_centred(frozen: FrozenRows, settings: TrainSettings, progress: Progress) -> Part:
    """Hub items in both spaces, and what each leaf memory holds for them."""
    part: Part = {space: {"hub": rows} for space, rows in frozen.hub.items()}
    for space, memory in frozen.leaf.items():
        queries = frozen.hub[space]
        with progress.task(f"pseudo pairs in {space}", len(queries)) as advance:
            (part[space]["leaf"],) = _by(frozen, settings, space, "hub")(
                queries,
                memory,
                (memory,),
                temperature=settings.retrieval_temperature,
                advance=advance,
            )
    return part


def around_leaf(
    space: str, frozen: FrozenRows, settings: TrainSettings, progress: Progress
) -> Part:
    """A leaf memory's items, their hub items in both spaces, and the other leaf memory's items."""
    hub, leaf = frozen.hub, loaded(frozen.leaf)
    other = next(name for name in hub if name != space)
    total = len(leaf[space]) * (2 if other in leaf else 1)
    with progress.task(f"pseudo pairs around {space}'s leaf", total) as advance:
        own_hub, other_hub, other_leaf = leaf_centred(
            leaf[space],
            hub[space],
            hub[other],
            leaf.get(other),
            by=_by(frozen, settings, space, "leaf"),
            temperature=settings.retrieval_temperature,
            advance=advance,
        )
    part: Part = {space: {"hub": own_hub, "leaf": leaf[space]}, other: {"hub": other_hub}}
    if other_leaf is not None:
        part[other]["leaf"] = other_leaf
    return {name: part[name] for name in hub}


def concatenated(parts: Sequence[Part]) -> Part:
    """One table of each space and role."""
    if len(parts) == 1:  # at full size a copy is too much
        return parts[0]
    return {
        space: {role: torch.cat([part[space][role] for part in parts]) for role in roles}
        for space, roles in parts[0].items()
    }


def _by(frozen: FrozenRows, settings: TrainSettings, space: str, centre: str) -> Retriever:
    wanted = settings.retrieval == "approximate" and frozen.ranks.first
    indices = _indices(frozen) if wanted else []
    tasks = frozen.tasks
    by = remembering(
        retriever(settings.retrieval, indices, tasks=tasks),
        frozen.origin,
        settings,
        space=space,
        centre=centre,
        indices=[index.about["faiss_checksum"] for _, index in indices],
        engine=tasks.engine if tasks is not None else "local",
    )
    return by if frozen.ranks.size == 1 else _OfFirst(by, frozen.ranks)


@dataclass(frozen=True)
class _OfFirst:
    """Retrieves in the first of several processes, for all of them."""

    by: Retriever
    ranks: Ranks

    def __call__(
        self,
        queries: Tensor,
        keys: Rows,
        values: tuple[Rows, ...],
        *,
        temperature: float,
        advance: Callable[[int], None] = lambda _: None,
    ) -> tuple[Tensor, ...]:
        made = None
        if self.ranks.first:
            found = self.by(queries, keys, values, temperature=temperature, advance=advance)
            made = {str(place): table for place, table in enumerate(found)}
        return tuple(self.ranks.handed_out(made, queries.device).values())


def _indices(frozen: FrozenRows) -> list[tuple[Rows, FaissIndex]]:
    """Of leaf memories that have one beside them; several of one space have none together."""
    if frozen.origin is None:
        return []
    found: list[tuple[Rows, FaissIndex]] = []
    for space, rows in frozen.leaf.items():
        memories = frozen.origin.leaf[space]
        index = index_beside(memories[0]) if len(memories) == 1 else None
        if index is not None:
            found.append((rows, index))
    return found
