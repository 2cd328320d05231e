"""Several bridges on the same memories, side by side, and how sure their differences are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bridge.artefact import Bridge
from bridge.evaluation.differences import CrossModalDifference, differences, units_of
from bridge.evaluation.retrieval import relevance_of, search_both_ways
from bridge.metrics.bootstrap import MIN_RESAMPLES
from bridge.metrics.retrieval import CUTOFFS, PerQuery, Retrieval, summary
from bridge.projection import check_memory, is_projected
from features.errors import UserError
from features.memories.memory import Memory
from features.progress import SILENT, Progress


@dataclass(frozen=True)
class MeanRetrieval:
    """Means of the figures of both directions, which count the same whatever their queries."""

    recall: dict[int, float]
    mean_average_precision: float


@dataclass(frozen=True)
class ComparedBridge:
    """Figures of one bridge; `difference` is to the first bridge, which has none."""

    name: str
    fingerprint: str
    mean: MeanRetrieval
    forward: Retrieval
    backward: Retrieval
    difference: CrossModalDifference | None


@dataclass(frozen=True)
class Comparison:
    """Retrieval between two memories through several bridges, in the order they were given.

    query, gallery, relevance, chance: as in `CrossModalRetrieval`, the same for all bridges.
    resampled: what the bootstrap drew: `classes`, `items` or `queries`; see `compare_retrieval`.
    units: how many of them there are, forward and backward.
    """

    query: str
    gallery: str
    relevance: str
    chance: float
    resampled: str
    units: tuple[int, int]
    resamples: int
    seed: int
    bridges: tuple[ComparedBridge, ...]


def compare_retrieval(
    bridges: Sequence[Bridge],
    query: Memory,
    gallery: Memory,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    trust_encoder: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Evaluate each bridge as `evaluate_retrieval` does, and test its differences to the first.

    The test is a paired bootstrap: the same queries are drawn for all bridges, the gallery stays
    (`bridge.metrics.bootstrap` has the sources). What is drawn, with replacement:

    - `classes`, where items are right by label and FEW classes or more are shared: queries of one
      class find the same items hard, so a class is drawn with all its queries of both directions.
      The test speaks for other classes of this kind.
    - `queries`, where the shared classes are fewer: each direction's for themselves. The test
      speaks for other items of these very classes.
    - `items`, where items are right by id: an item with its partner, so both directions at once.

    seed: of the draws, which are the same on every device. Warns with FewResampled if there are
    fewer than FEW to draw from. Raises UserError for fewer than two bridges, one that is given
    twice, fewer than MIN_RESAMPLES resamples, projected memories, and what `evaluate_retrieval`
    refuses.
    """
    _check(bridges, (query, gallery), resamples, trust_encoder)
    relevance = relevance_of(query, gallery)
    measured = []
    with progress.task("evaluate", len(bridges), unit="bridges") as advance:
        for bridge in bridges:
            # Checked above, where it would also have been told what is taken on trust.
            measured.append(search_both_ways(bridge, query, gallery, relevance, trust_encoder=True))
            advance(1)
    units = units_of(relevance, measured[0])
    tested = differences(
        measured,
        units,
        resamples=resamples,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )
    return Comparison(
        query=query.modality,
        gallery=gallery.modality,
        relevance=relevance.kind,
        chance=relevance.chance,
        resampled=units.kind,
        units=units.counts,
        resamples=resamples,
        seed=seed,
        bridges=tuple(map(_compared, bridges, measured, [None, *tested])),
    )


def _check(
    bridges: Sequence[Bridge], memories: Sequence[Memory], resamples: int, trust_encoder: bool
) -> None:
    """Refuse, before the first bridge is evaluated, what one of them would be refused for."""
    if len(bridges) < 2:
        raise UserError(
            f"a comparison takes two bridges or more but {len(bridges)} was given: give another, "
            "or evaluate the one with `mcr eval` (evaluate_retrieval)"
        )
    if resamples < MIN_RESAMPLES:
        raise UserError(
            f"resamples is {resamples} but a 95 % interval needs at least {MIN_RESAMPLES}: give "
            "more, such as 10000"
        )
    seen: dict[str, str] = {}
    for bridge in bridges:
        if bridge.fingerprint in seen:
            raise UserError(
                f"the bridges {seen[bridge.fingerprint]} and {bridge.name} have the same weights "
                f"({bridge.fingerprint}), so there is nothing to compare: give each bridge once"
            )
        seen[bridge.fingerprint] = bridge.name
    for memory in memories:
        if is_projected(memory):
            raise UserError(
                f"{memory.path} is projected by one bridge, {memory.space}, so others cannot be "
                "compared on it: give the memory that it came from"
            )
        for bridge in bridges:
            check_memory(bridge, memory, trust_encoder=trust_encoder)


def _compared(
    bridge: Bridge, both: tuple[PerQuery, PerQuery], difference: CrossModalDifference | None
) -> ComparedBridge:
    forward, backward = (summary(one) for one in both)
    mean = MeanRetrieval(
        {k: (forward.recall[k] + backward.recall[k]) / 2 for k in CUTOFFS},
        (forward.mean_average_precision + backward.mean_average_precision) / 2,
    )
    return ComparedBridge(bridge.name, bridge.fingerprint, mean, forward, backward, difference)
