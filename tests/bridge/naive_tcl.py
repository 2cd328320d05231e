"""TCL's terms by their formulas, one pair at a time, in Python's floats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.bridge.naive import Rows, inner, softmax

Mask = Sequence[Sequence[bool]]


def contrast(
    view: Rows,
    keys: Rows,
    items: Sequence[int],
    queue: Rows,
    queue_items: Sequence[int],
    temperature: float,
    teacher: Rows | None = None,
    alpha: float = 0.0,
) -> float:
    """One direction of CMA, or IMC of one modality."""
    costs = []
    for i, row in enumerate(view):
        known = list(keys)
        known += [one for one, item in zip(queue, queue_items, strict=True) if item != items[i]]
        chances = softmax([inner(row, key) / temperature for key in known])
        targets = [0.0] * len(known)
        if teacher is not None:
            soft = softmax([inner(teacher[i], key) / temperature for key in known])
            targets = [alpha * one for one in soft]
        targets[i] += 1 - alpha if teacher is not None else 1.0
        costs.append(-math.fsum(t * math.log(p) for t, p in zip(targets, chances, strict=True)))
    return math.fsum(costs) / len(costs)


def local_information(view: Rows, parts: Sequence[Rows], mask: Mask, temperature: float) -> float:
    """LMI of one modality."""
    costs = []
    for i, row in enumerate(view):
        others = [
            math.exp(inner(row, part) / temperature)
            for k, item in enumerate(parts)
            for part, there in zip(item, mask[k], strict=True)
            if k != i and there
        ]
        own = [
            math.exp(inner(row, part) / temperature)
            for part, there in zip(parts[i], mask[i], strict=True)
            if there
        ]
        if own:
            each = [-math.log(one / (one + math.fsum(others))) for one in own]
            costs.append(math.fsum(each) / len(each))
    return math.fsum(costs) / len(costs)


def part_information(parts: Sequence[Rows], mask: Mask, items: Rows, temperature: float) -> float:
    """LMI of one modality, from the parts to the items."""
    costs = []
    for i, mine in enumerate(parts):
        each = []
        for part, there in zip(mine, mask[i], strict=True):
            if there:
                chances = softmax([inner(part, item) / temperature for item in items])
                each.append(-math.log(chances[i]))
        if each:
            costs.append(math.fsum(each) / len(each))
    return math.fsum(costs) / len(costs)


def matching(positive: Sequence[float], negative: Sequence[float]) -> float:
    """ITM."""
    costs = [-math.log(1 / (1 + math.exp(-one))) for one in positive]
    costs += [-math.log(1 - 1 / (1 + math.exp(-one))) for one in negative]
    return math.fsum(costs) / len(costs)


def masked_words(
    logits: Sequence[Rows],
    words: Sequence[Sequence[int]],
    masked: Mask,
    teacher: Sequence[Rows],
    alpha: float,
) -> float:
    """MLM."""
    costs = []
    for i, sentence in enumerate(words):
        for w, word in enumerate(sentence):
            if not masked[i][w]:
                continue
            chances, soft = softmax(logits[i][w]), softmax(teacher[i][w])
            targets = [alpha * one + (1 - alpha) * (v == word) for v, one in enumerate(soft)]
            costs.append(-math.fsum(t * math.log(p) for t, p in zip(targets, chances, strict=True)))
    return math.fsum(costs) / len(costs) if costs else 0.0


def followed(copy: Rows, leader: Rows, share: float) -> list[list[float]]:
    """A momentum weight after a step."""
    return [
        [share * mine + (1 - share) * wanted for mine, wanted in zip(one, other, strict=True)]
        for one, other in zip(copy, leader, strict=True)
    ]


def projected(rows: Rows, weight: Rows) -> list[list[float]]:
    """Unit rows of `weight` times each row."""
    made = []
    for row in rows:
        out = [inner(row, one) for one in weight]
        norm = math.sqrt(inner(out, out))
        made.append([one / norm for one in out])
    return made
