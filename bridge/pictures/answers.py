"""Queries and their hits, chosen for a contact sheet or a report: spread, at random, best, worst.

Axes: q queries, g gallery items, e dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bridge.artefact import Bridge
from bridge.evaluation.retrieval import SCORES_AT_A_TIME, Relevance, relevance_of
from bridge.evaluation.rows import comparable_rows
from bridge.metrics.retrieval import first_ranks
from bridge.pictures.stages import told_draws
from bridge.pictures.tiles import Tile
from features.errors import UnknownNameError, UserError
from features.memories.memory import Memory
from features.search.index import Hit, hit_table
from features.search.nearest import nearest
from features.suggest import unknown

CHOICES = ("spread", "random", "best", "worst")


@dataclass(frozen=True)
class Answer:
    """A query of a memory, and what it finds.

    rank: of its first right hit, 1 is best; None where nothing says what is right.
    right: of each hit, whether it answers the query, or None.
    """

    query: Hit
    hits: Sequence[Hit]
    right: Sequence[bool | None]
    rank: int | None


@dataclass(frozen=True)
class Answers:
    """Answers in order. notes: what a reader must know."""

    query: Memory
    gallery: Memory
    answers: Sequence[Answer]
    notes: Sequence[str] = ()


class Searches:
    """A memory of queries and a gallery in one space, ready to be asked several times."""

    def __init__(
        self,
        query: Memory,
        gallery: Memory,
        *,
        bridge: Bridge | None = None,
        relevance: str = "auto",
        items: int = 2000,
        seed: int = 0,
        trust_encoder: bool = False,
    ) -> None:
        """items: queries that are ranked at most, drawn by the seed if there are more.

        Raises UserError for memories that do not go together.
        """
        rows = comparable_rows(bridge, (query, gallery), trust_encoder=trust_encoder)
        self.rows: tuple[Tensor, Tensor] = (rows[0], rows[1])
        self.query, self.gallery = query, gallery
        self.seed = seed
        self.relevance: Relevance | None = None
        self.unknown = ""
        try:
            self.relevance = relevance_of(query, gallery, relevance)
        except UnknownNameError:
            raise
        except UserError as error:
            self.unknown = str(error)
        drawn = np.random.default_rng(seed).permutation(len(query))[:items]
        self._drawn = torch.from_numpy(np.sort(drawn))

    def chosen(self, choice: str, count: int, k: int) -> Answers:
        """`count` queries with their k nearest hits.

        choice: `spread` over the memory, at `random`, or those that are answered `best` or
        `worst`: by the rank of the first right hit, then by how far its score is above the
        highest wrong one; a second one of a label only where there are no more
        labels. Raises UserError for another choice, or if nothing says what is right.
        """
        if choice not in CHOICES:
            raise unknown("choice of queries", choice, CHOICES)
        notes: list[str] = []
        if choice == "spread":
            rows = np.unique(np.linspace(0, len(self.query) - 1, count).astype(np.intp))
        elif choice == "random":
            rows = np.sort(np.random.default_rng(self.seed).permutation(len(self.query))[:count])
            notes = told_draws([self.query], [rows], self.seed)
        else:
            order, ranked = self._by_success()
            rows, notes = self._labels_apart(order if choice == "best" else order[::-1], count)
            notes += told_draws([self.query], [ranked], self.seed)
        return self.of(rows, k, notes)

    def named(self, ids: Sequence[str], k: int) -> Answers:
        """The queries of these ids. Raises UserError for an id that the memory lacks."""
        for name in ids:
            if name not in self.query.row_of:
                raise UserError(
                    f"{self.query.path} has no item {name}: its ids are such as "
                    f"{', '.join(list(self.query.ids[:3]))}"
                )
        return self.of(np.array([self.query.row_of[name] for name in ids]), k, [])

    def of(self, rows: Int[NDArray[Any], " q"], k: int, notes: Sequence[str]) -> Answers:
        """The queries at `rows` with their k nearest hits, best first."""
        asked = self.rows[0][torch.from_numpy(rows.astype(np.int64))]
        scores, found = nearest(asked, self.rows[1], min(k, len(self.gallery)))
        ranks = self._ranks(rows)
        table, queries = hit_table(self.gallery), hit_table(self.query)
        answers = []
        for i, row in enumerate(rows.tolist()):
            hits = found[i].tolist()
            (query,) = queries.hits([row], [1.0])
            right = [self._is_right(row, hit) for hit in hits]
            answers.append(Answer(query, table.hits(hits, scores[i].tolist()), right, ranks[i]))
        return Answers(self.query, self.gallery, answers, notes)

    def _is_right(self, query: int, hit: int) -> bool | None:
        if self.relevance is None:
            return None
        return bool(self.relevance.query[query] == self.relevance.gallery[hit])

    def _ranks(self, rows: Int[NDArray[Any], " q"]) -> list[int | None]:
        if self.relevance is None:
            return [None] * len(rows)
        ranks: list[int | None] = []
        for row in rows.tolist():
            right = (self.relevance.gallery == self.relevance.query[row])[None]
            scores = self.rows[0][row : row + 1] @ self.rows[1].T
            ranks.append(int(first_ranks(scores, right)[0]) if bool(right.any()) else None)
        return ranks

    def _labels_apart(
        self, order: Int[NDArray[Any], " q"], count: int
    ) -> tuple[Int[NDArray[Any], " q"], list[str]]:
        """The first rows of an order, of each label one before there is a second; and a note."""
        labels, seen = self.query.labels, Counter[str]()
        if labels is None:
            return order[:count], []
        turns = []
        for row in order.tolist():
            turns.append(seen[labels[row]])
            seen[labels[row]] += 1
        taken = np.sort(np.argsort(turns, kind="stable")[:count])
        apart = len(seen) >= len(taken) and not np.array_equal(taken, np.arange(len(taken)))
        return order[taken], ["of each label one query"] if apart else []

    def _by_success(self) -> tuple[Int[NDArray[Any], " q"], Int[NDArray[Any], " q"]]:
        """Rows of the queries that can be answered, best first, and all that were looked at."""
        if self.relevance is None:
            raise UserError(f"best and worst need to know what is right, but {self.unknown}")
        rows = self._drawn
        rows = rows[torch.isin(self.relevance.query[rows], self.relevance.gallery)]
        ranks, margins = [], []
        block = max(1, SCORES_AT_A_TIME // len(self.gallery))
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            scores = self.rows[0][part] @ self.rows[1].T
            right = self.relevance.query[part, None] == self.relevance.gallery[None, :]
            ranks.append(first_ranks(scores, right))
            margins.append(_margins(scores, right))
        rank, margin = torch.cat(ranks).numpy(), torch.cat(margins).numpy()
        order = np.lexsort((-margin, rank))
        return rows.numpy()[order], self._drawn.numpy()


def _margins(scores: Float[Tensor, "q g"], right: Tensor) -> Float[Tensor, " q"]:
    """Score of the best right item less that of the best wrong one."""
    best_right = scores.masked_fill(~right, -torch.inf).amax(dim=1)
    best_wrong = scores.masked_fill(right, -torch.inf).amax(dim=1)
    return best_right - best_wrong


def sheet_rows(found: Answers) -> list[tuple[Tile, list[Tile]]]:
    """Answers as rows of a contact sheet."""
    return [
        (
            tile_of(answer.query, found.query, None, score=False),
            [
                tile_of(hit, found.gallery, right, score=True)
                for hit, right in zip(answer.hits, answer.right, strict=True)
            ],
        )
        for answer in found.answers
    ]


def tile_of(hit: Hit, memory: Memory, right: bool | None, *, score: bool) -> Tile:
    """An item as a tile, named by its label or, if it has none, by its id."""
    name = hit.label or hit.id
    sentence = memory.modality == "text" and hit.path is None
    value = hit.item if sentence else Path(hit.path or hit.item)
    return Tile(memory.modality, value, name, right, hit.score if score else None)
