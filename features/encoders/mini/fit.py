"""Fitting a mini encoder on pairs (or triples) by InfoNCE between their modalities.

Rows that share a group, by default the same sentence, are no negatives of one another: the
target of a row is spread evenly over its group (supervised contrastive learning,
arXiv 2004.11362, with the sum outside the logarithm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from features.device import resolve_device
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import save_mini
from features.encoders.mini.inputs import MiniInput
from features.encoders.mini.towers import Tower
from features.errors import ItemError, UserError
from features.progress import SILENT, Progress
from features.space import Modality

MAX_SCALE = 50.0  # of the logits: the temperature is kept above 0.02


@dataclass(frozen=True)
class FitSettings:
    """How a mini encoder is fitted; AdamW with a warm-up of a tenth and cosine decay."""

    steps: int = 1500
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    temperature: float = 0.07  # at the start; learnable
    seed: int = 0


def read_pairs(
    config: MiniConfig,
    items: Mapping[Modality, Sequence[str | Path]],
    *,
    progress: Progress = SILENT,
) -> dict[Modality, Tensor]:
    """The network's input arrays of paired items: row i of every modality belongs together.

    Raises UserError that names the item if one cannot be read.
    """
    arrays: dict[Modality, Tensor] = {}
    for modality, column in items.items():
        make = MiniInput(config, modality)
        rows = []
        with progress.task(f"read {modality}", len(column)) as advance:
            for item in column:
                try:
                    rows.append(make(item))
                except ItemError as error:
                    raise UserError(f"{item}: {error}; mend it or leave its pair out") from error
                advance(1)
        arrays[modality] = torch.from_numpy(np.stack(rows))
    return arrays


def fit_mini(
    config: MiniConfig,
    arrays: Mapping[Modality, Tensor],
    groups: Sequence[str],
    out: Path,
    *,
    settings: FitSettings | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> float:
    """Fit towers on paired arrays and write them to `out`; returns the last loss in nats.

    arrays: for every modality of `config`, (n, ...) as `read_pairs` gives them.
    groups: n names; rows of one name are never negatives of one another.
    Raises UserError if the modalities do not match or there are too few pairs.
    """
    settings = settings or FitSettings()
    _check_pairs(config, arrays, groups)
    where = resolve_device(device)
    towers, scale = _start(config, settings, where)
    optimizer, schedule = _optimizer(towers, scale, settings)
    group = torch.tensor(np.unique(np.asarray(groups), return_inverse=True)[1])
    generator = torch.Generator().manual_seed(settings.seed)
    loss = torch.tensor(0.0)
    with progress.task(f"fit {config.name}", settings.steps, unit="steps") as advance:
        for _ in range(settings.steps):
            rows = torch.randint(len(group), (settings.batch,), generator=generator)
            embedded = {m: tower(arrays[m][rows].to(where)) for m, tower in towers.items()}
            targets = group_targets(group[rows].to(where))
            pairs = list(combinations(embedded.values(), 2))
            loss = torch.stack(
                [grouped_nce(a, b, targets, scale.exp().clamp(max=MAX_SCALE)) for a, b in pairs]
            ).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(_weights(towers), 1.0)
            optimizer.step()
            schedule.step()
            advance(1)
    save_mini(out, config, towers)
    return float(loss.detach())


def _check_pairs(
    config: MiniConfig, arrays: Mapping[Modality, Tensor], groups: Sequence[str]
) -> None:
    if set(arrays) != set(config.modalities) or len(arrays) < 2:
        raise UserError(
            f"the encoder {config.name} is for {', '.join(config.modalities)} but pairs of "
            f"{', '.join(arrays)} were given: give one column for each of two or more modalities"
        )
    count = len(groups)
    if count < 2 or len(set(groups)) < 2:
        raise UserError(
            f"{count} pairs with {len(set(groups))} different texts cannot be contrasted: "
            "give at least two that differ"
        )


def _start(
    config: MiniConfig, settings: FitSettings, device: torch.device
) -> tuple[dict[Modality, Tower], torch.nn.Parameter]:
    """Fresh towers, and the logarithm of the logits' scale."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)  # torch.nn draws initial weights from the global one
        towers = {modality: Tower(modality, config).to(device) for modality in config.modalities}
    return towers, torch.nn.Parameter(torch.tensor(-log(settings.temperature), device=device))


def _optimizer(
    towers: Mapping[Modality, Tower], scale: torch.nn.Parameter, settings: FitSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(
        [
            {"params": _weights(towers), "weight_decay": settings.weight_decay},
            {"params": [scale], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=settings.steps,
        pct_start=0.1 if settings.steps >= 20 else 0.3,  # it fails on a warm-up of one step
    )
    return optimizer, schedule


def _weights(towers: Mapping[Modality, Tower]) -> list[torch.nn.Parameter]:
    return [parameter for tower in towers.values() for parameter in tower.parameters()]


def group_targets(group: Int[Tensor, " b"]) -> Float[Tensor, "b b"]:
    """Rows that sum to one, spread evenly over the members of each row's group."""
    same = (group[:, None] == group[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def grouped_nce(
    left: Float[Tensor, "b d"],
    right: Float[Tensor, "b d"],
    targets: Float[Tensor, "b b"],
    scale: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    """Cross-entropy, in nats, of finding each row's group, mean over both directions."""
    logits = left @ right.T * scale
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
