"""Retrieval metrics as pure functions of a score matrix.

Axes: q queries, g gallery items. Scores: higher is nearer. Ties count against the system:
an item that scores the same as a wrong one is ranked behind it, so that a collapsed space,
where all scores are equal, gets the worst figures and not the best. NaN ranks last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CUTOFFS = (1, 5, 10)


@dataclass(frozen=True)
class Retrieval:
    """Figures of one direction of retrieval, averaged over the queries.

    recall: share of queries with a right item among the first k, by k.
    median_rank: of each query's first right item, 1 is best.
    mean_average_precision: mean over queries of the precision at every right item.
    queries: how many were averaged. excluded: queries without any right item in the gallery.
    """

    recall: dict[int, float]
    median_rank: float
    mean_average_precision: float
    queries: int
    excluded: int = 0


@dataclass(frozen=True)
class PerQuery:
    """What `Retrieval` averages: figures of every query of one direction, in their order.

    ranks: of the query's first right item, 1 is best.
    precisions: average precision of the query.
    answerable: which of all n queries have a right item in the gallery; those q have figures.
    """

    ranks: Int[Tensor, " q"]
    precisions: Float[Tensor, " q"]
    answerable: Bool[Tensor, " n"]


def first_ranks(scores: Float[Tensor, "q g"], relevant: Bool[Tensor, "q g"]) -> Int[Tensor, " q"]:
    """Rank of the best-scored right item of each query; every row has at least one.

    >>> first_ranks(torch.tensor([[0.9, 0.5, 0.7]]), torch.tensor([[False, False, True]]))
    tensor([2])
    """
    scores = scores.nan_to_num(nan=-torch.inf)
    best = scores.masked_fill(~relevant, -torch.inf).amax(dim=1, keepdim=True)
    return 1 + ((scores >= best) & ~relevant).sum(dim=1)


def average_precision(
    scores: Float[Tensor, "q g"], relevant: Bool[Tensor, "q g"]
) -> Float[Tensor, " q"]:
    """Mean precision at the rank of every right item; every row has at least one.

    Right items at ranks 1 and 3 give (1/1 + 2/3) / 2:

    >>> average_precision(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[True, False, True]]))
    tensor([0.8333], dtype=torch.float64)
    """
    scores = scores.nan_to_num(nan=-torch.inf)
    wrong_first = relevant.to(torch.int8).argsort(dim=1, stable=True)
    by_score = scores.gather(1, wrong_first).argsort(dim=1, descending=True, stable=True)
    hits = relevant.gather(1, wrong_first.gather(1, by_score)).to(torch.float64)
    places = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    precision = hits.cumsum(dim=1) / places
    return (precision * hits).sum(dim=1) / hits.sum(dim=1)


def per_query(
    blocks: Iterable[tuple[Float[Tensor, "b g"], Bool[Tensor, "b g"]]],
) -> PerQuery:
    """Figures of each query over blocks of queries, each with its scores and which items are right.

    Queries without a right item have none.
    """
    ranks: list[Tensor] = []
    precisions: list[Tensor] = []
    having: list[Tensor] = []
    for scores, relevant in blocks:
        answerable = relevant.any(dim=1)
        scores, relevant = scores[answerable], relevant[answerable]
        ranks.append(first_ranks(scores, relevant).cpu())
        precisions.append(average_precision(scores, relevant).cpu())
        having.append(answerable.cpu())
    return PerQuery(torch.cat(ranks), torch.cat(precisions), torch.cat(having))


def retrieval(
    blocks: Iterable[tuple[Float[Tensor, "b g"], Bool[Tensor, "b g"]]],
) -> Retrieval:
    """Figures over blocks of queries, each with its scores and which items are right.

    Queries without a right item are excluded and counted.
    """
    return summary(per_query(blocks))


def paired_retrieval(scores: Float[Tensor, "n n"]) -> Retrieval:
    """Figures where query i has the one right item i; without sorting, as only its rank counts."""
    scores = scores.nan_to_num(nan=-torch.inf)
    ranks = (scores >= scores.diagonal()[:, None]).sum(dim=1).cpu()
    precisions = ranks.double().reciprocal()
    return summary(PerQuery(ranks, precisions, torch.ones(len(ranks), dtype=torch.bool)))


def summary(queries: PerQuery) -> Retrieval:
    """Averages of the queries' first ranks and average precisions."""
    ranks, counted = queries.ranks, len(queries.ranks)
    excluded = len(queries.answerable) - counted
    if not counted:
        nothing = float("nan")
        return Retrieval(dict.fromkeys(CUTOFFS, nothing), nothing, nothing, 0, excluded)
    return Retrieval(
        recall={k: float((ranks <= k).double().mean()) for k in CUTOFFS},
        median_rank=float(ranks.double().quantile(0.5)),
        mean_average_precision=float(queries.precisions.double().mean()),
        queries=counted,
        excluded=excluded,
    )
