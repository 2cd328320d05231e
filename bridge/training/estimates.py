"""What training will take, from a second of it on random rows of the memories' sizes.

Pseudo pairs take as long as their products: hub items times leaf items. A step takes a time for
every row, and one for every pair of rows in its batch; both are measured at two sizes of batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from bridge.config import TrainSettings
from bridge.methods.mixture import ENOUGH, FOLDS, MOST_FITTED, members
from bridge.training.leaf_rows import LeafRows
from bridge.training.run import Run
from bridge.training.training_set import FrozenRows, TrainingSet, build_training_set
from features.device import resolve_device
from features.extraction.estimates import Estimate
from features.memories.memory import Memory
from features.progress import SILENT
from features.room import free_bytes
from features.space import Modality

_HUB, _LEAF = 1024, 2048  # rows of the sample
_BATCHES = (128, 512)
_FLOAT = 4


@dataclass(frozen=True)
class Size:
    """The size of a memory, which need not be there yet."""

    space: str
    modality: Modality
    items: int
    dimension: int


def size_of(memory: Memory) -> Size:
    """The size of a memory that is there."""
    return Size(memory.space, memory.modality, len(memory), memory.dimension)


@dataclass(frozen=True)
class _Cost:
    """Seconds: of pseudo pairs, for all memories; of a row of a batch, and of a pair of rows."""

    pairs: float
    row: float
    square: float
    parameters: int

    def seconds(self, settings: TrainSettings, items: int, of: int) -> float:
        """Of training on `items` hub items of `of`."""
        batch = settings.batch_for(items)
        steps = self.row * items + self.square * items * batch
        return self.pairs * items / of + settings.epochs * steps


def estimate_training(
    hub: Sequence[Size], leaf: Sequence[Size], settings: TrainSettings, *, device: str = "auto"
) -> Estimate:
    """What a training takes.

    hub: two memories of the same items. TCL's terms about parts of items are not counted.
    """
    where = resolve_device(device)
    items = max(2, round(min(one.items for one in hub) * (1 - settings.holdout)))
    plain = replace(settings, lmi_weight=0.0, itm_weight=0.0, mlm_weight=0.0)
    tried = members(plain, items) if settings.has_parts else {"": plain}
    by_gradients = {name: s for name, s in tried.items() if s.method == "projectors"}
    sample = _sample(hub, leaf, where)
    seconds = 0.0
    parameters = 0
    for one in by_gradients.values():
        cost = _measured(one, sample, _products(hub, leaf, items), where)
        parameters += cost.parameters
        seconds += cost.seconds(one, items, items)
        if settings.method == "mixture":
            kept = min(MOST_FITTED, math.ceil(items * (1 - 1 / FOLDS)))
            seconds += _folds(items) * cost.seconds(one, kept, items)
    closed = len(tried) - len(by_gradients)
    how = "a few steps on random rows of these sizes were timed"
    if settings != plain:
        how += "; terms about parts are not counted"
    parameters += closed * settings.dimension * sum(one.dimension for one in hub)
    if closed:
        how += f"; {closed} closed forms are not counted"
    return Estimate(
        items,
        _FLOAT * parameters,
        _memory(hub, leaf, items, where),
        seconds if by_gradients else None,
        how if by_gradients else "a closed form, commonly seconds",
        peak=2 * _FLOAT * parameters,  # the optimizer's state, in checkpoints
    )


def _folds(items: int) -> int:
    return max(1, min(FOLDS, math.ceil(ENOUGH * FOLDS / items)))


def _memory(hub: Sequence[Size], leaf: Sequence[Size], items: int, where: torch.device) -> int:
    """Hub items and pseudo pairs of both spaces, and the leaves that are not streamed."""
    resident = sum(2 * _FLOAT * items * one.dimension for one in hub)
    room = free_bytes(where) // 2
    for one in leaf:
        size = _FLOAT * one.items * one.dimension
        resident += size if size <= room else 0
    return resident


def _products(hub: Sequence[Size], leaf: Sequence[Size], items: int) -> dict[str, float]:
    """By space, how many times more products pseudo pairs take than those of the sample."""
    found = {}
    for one in hub:
        rows = sum(other.items for other in leaf if other.space == one.space)
        here = min(_HUB, one.items) * min(_LEAF, rows)
        found[one.space] = items * rows / here if here else 0.0
    return found


def _sample(hub: Sequence[Size], leaf: Sequence[Size], where: torch.device) -> FrozenRows:
    generator = torch.Generator().manual_seed(0)

    def rows(count: int, dimension: int) -> torch.Tensor:
        return F.normalize(torch.randn(count, dimension, generator=generator), dim=-1).to(where)

    leaves: dict[str, LeafRows] = {}
    modalities: dict[str, dict[str, Modality]] = {}
    for one in hub:
        own = [other for other in leaf if other.space == one.space]
        modalities[one.space] = {"hub": one.modality}
        if own:
            modalities[one.space]["leaf"] = own[0].modality
            leaves[one.space] = rows(min(_LEAF, sum(o.items for o in own)), one.dimension)
    tables = {one.space: rows(min(_HUB, one.items), one.dimension) for one in hub}
    nothing = {space: table[:0] for space, table in tables.items()}
    return FrozenRows(tables, nothing, leaves, modalities)


def _measured(
    settings: TrainSettings,
    sample: FrozenRows,
    products: Mapping[str, float],
    where: torch.device,
) -> _Cost:
    plain = replace(settings, patience=None, epochs=1, start="random")
    build_training_set(sample, plain)  # what is slow only the first time
    started = time.perf_counter()
    data = build_training_set(sample, plain)
    seconds = time.perf_counter() - started
    grown = [ratio for ratio in products.values() if ratio]
    pairs = seconds * (sum(grown) / len(grown) if grown else 0.0)
    (small, parameters), (large, _) = (
        _step(data, replace(plain, batch=size), where) for size in _BATCHES
    )
    few, many = _BATCHES
    square = max(0.0, (large / many - small / few) / (many - few))
    row = max(0.0, small / few - square * few)
    return _Cost(pairs, row, square, parameters)


def _step(data: TrainingSet, settings: TrainSettings, where: torch.device) -> tuple[float, int]:
    """Seconds of a step, and how many weights it trains."""
    Run(None, settings, data, {}, where).fit(SILENT)  # what is slow only the first time
    run = Run(None, settings, data, {}, where)
    started = time.perf_counter()
    run.fit(SILENT)
    seconds = (time.perf_counter() - started) / run.steps
    return seconds, sum(one.numel() for p in run.projectors.values() for one in p.parameters())
