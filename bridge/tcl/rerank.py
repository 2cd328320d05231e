"""Re-ranking: what the bridge finds first, ordered again by the fusion encoder.

Axes: q queries, k candidates of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bridge.artefact import Bridge
from bridge.projection import check_memory, is_projected
from bridge.search import Embedder, Query
from bridge.tcl.fusion import Fusion, Side, Tokens
from bridge.tcl.items import MAKE_PARTS
from features.errors import UserError
from features.memories.memory import Memory
from features.search.index import Hit

DEPTH = 16  # hits that are looked at again, unless told
_AT_ONCE = 1024  # pairs


def rerank(
    query: Query,
    hits: Sequence[Hit],
    memory: Memory,
    bridge: Bridge,
    embedder: Embedder,
) -> list[Hit]:
    """Hits of a query in the order of cosine and match together; their scores are the sums.

    memory: frozen embeddings of the hits' items, with their parts.
    Raises UserError if the bridge has no fusion encoder, or another than for these modalities, or
    the memory lacks parts or items.
    """
    matcher = matcher_of(bridge)
    check_parts(memory, bridge, trust_encoder=embedder.trust_encoder)
    mine, other = sides_of(bridge, query.modality, memory)
    unknown = [hit.id for hit in hits if hit.id not in memory.row_of]
    if unknown:
        raise UserError(
            f"{memory.path} does not hold the item {unknown[0]} that was found: give the memory "
            "that the search is in was made of, with its parts"
        )
    space = bridge.space_named(matcher.spec.sides[mine].space)
    found = embedder.embed_local(query, space.name, space.encoder)
    rows = np.array([[memory.row_of[hit.id] for hit in hits]])
    logits = matches(matcher, found, memory, rows, other=other)[0].tolist()
    scored = [
        replace(hit, score=hit.score / matcher.spec.temperature + logit)
        for hit, logit in zip(hits, logits, strict=True)
    ]
    return sorted(scored, key=lambda hit: -hit.score)


@torch.inference_mode()
def matches(
    matcher: Fusion,
    queries: Tokens,
    memory: Memory,
    rows: Int[NDArray[np.integer[Any]], "q k"],
    *,
    other: int,
) -> Float[Tensor, "q k"]:
    """Logits of a match of each query with the items of its candidate rows.

    other: the side of the fusion encoder that the memory is.
    """
    k, device = rows.shape[1], next(matcher.parameters()).device
    step, found = max(1, _AT_ONCE // k), []
    for start in range(0, len(rows), step):
        wanted = rows[start : start + step]
        asked = torch.arange(start, start + len(wanted)).repeat_interleave(k)
        pair = [queries.take(asked).to(device), tokens_of(memory, wanted.reshape(-1)).to(device)]
        logits = matcher(*(pair if other == 1 else pair[::-1]))
        found.append(logits.view(-1, k).cpu())
    return torch.cat(found)


def tokens_of(memory: Memory, rows: Int[NDArray[np.integer[Any]], " n"]) -> Tokens:
    """What a fusion encoder sees of a memory's items. Raises UserError if they have no parts."""
    return Tokens.of(memory.tensor(rows), *memory.local_tensors(rows))


def matcher_of(bridge: Bridge) -> Fusion:
    """The bridge's fusion encoder. Raises UserError if it has none."""
    if bridge.matcher is None:
        raise UserError(
            f"the bridge {bridge.name} has no fusion encoder to re-rank with: train one with "
            "--objective tcl --itm-weight 1, on memories of `mcr extract --local`"
        )
    return bridge.matcher


def sides_of(bridge: Bridge, modality: str, memory: Memory) -> tuple[int, int]:
    """Which side of the fusion encoder queries are, and which the memory."""
    sides = matcher_of(bridge).spec.sides
    for mine, other in ((0, 1), (1, 0)):
        if sides[mine].modality == modality and _holds(sides[other], memory):
            return mine, other
    known = " with ".join(
        f"{side.modality} in {side.space} of {side.parts} parts" for side in sides
    )
    raise UserError(
        f"the fusion encoder of {bridge.name} matches {known}, not {modality} with "
        f"{memory.modality} in {memory.space} of {memory.header.local_length} parts: leave "
        "--rerank out"
    )


def check_parts(memory: Memory, bridge: Bridge, *, trust_encoder: bool) -> None:
    """Raise UserError unless the memory is as the encoder made it, with parts."""
    check_memory(bridge, memory, trust_encoder=trust_encoder)
    if is_projected(memory) or not memory.header.local_length:
        lacks = "is projected" if is_projected(memory) else "has no parts"
        raise UserError(
            f"{memory.path} {lacks}, and re-ranking takes the parts of items as the encoder made "
            f"them: {MAKE_PARTS}, and name it with --parts"
        )


def _holds(side: Side, memory: Memory) -> bool:
    known = (side.space, side.modality) == (memory.space, memory.modality)
    return known and memory.header.local_length <= side.parts
