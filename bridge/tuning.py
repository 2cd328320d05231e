"""Settings from hub items alone: noise, temperature and shape by cross-validation.

Every trial is fitted without some of the hub items, and judged by how well the left-out ones are
found in the other space (`bridge.methods.mixture.questions`): the cross-entropy of the right item,
in nats, after the one scale that suits the trial best. No paired data is used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import xxhash

from bridge.config import TrainSettings
from bridge.methods.mixture import candidates, members, questions, shapes, stacked_weights
from bridge.training.leaf_rows import check_resident
from bridge.training.resemblance import check_resemblance
from bridge.training.training_set import check_memories, load_rows
from features.device import resolve_device
from features.errors import UserError
from features.files import explained, refuse_folder, replacing
from features.memories.memory import Memory
from features.progress import SILENT, Progress
from features.sealed import sealed_line, unsealed_line

NOISE_VARIANCES = (0.0, 0.001, 0.004, 0.016)
TEMPERATURES = (0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Trial:
    """Settings that were tried. cross_entropy: of left-out hub items, in nats; less is better."""

    name: str
    settings: TrainSettings
    cross_entropy: float


@dataclass(frozen=True)
class Tuning:
    """All trials, best first."""

    trials: Sequence[Trial]

    @property
    def best(self) -> Trial:
        """The one with the least cross-entropy."""
        return self.trials[0]


def tune(
    hub: Sequence[Memory],
    leaf: Sequence[Memory],
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    align: bool = False,
    trust_encoder: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    cache: bool = True,
    progress: Progress = SILENT,
) -> Tuning:
    """Write the settings that find left-out hub items best to `out`, as TOML for `load_settings`.

    settings: what all trials share. A mixture with the best noise and temperature is tried last.
    Trials are kept beside `out` until the end, and a run that was stopped continues with them.
    cache: keep large pseudo pairs beside the leaf memories, and use those that are kept.
    Raises UserError if memories do not fit together, hub items are too few, or `out` exists.
    """
    settings, out = settings or TrainSettings(), Path(out)
    refuse_folder(out)
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists: pass --overwrite to replace it, or choose another output")
    if settings.kind not in ("cmcr", "mixture"):
        raise UserError(
            f"settings are tuned for the objective cmcr and for mixtures, not for {settings.kind}: "
            "leave --method and --objective out"
        )
    sources = check_memories(hub, leaf, align=align, trust_encoder=trust_encoder)
    frozen = load_rows(
        sources,
        holdout=settings.holdout,
        seed=settings.seed,
        device=resolve_device(device),
        stream=settings.stream,
        cache=cache,
    )
    check_resident(settings, frozen.leaf)
    check_resemblance(frozen, sources)
    prints = [memory.fingerprint for memory in (*hub, *leaf)]
    kept = _Kept(out.with_name(f"{out.name}.trials.jsonl"), prints)
    items = len(next(iter(frozen.hub.values())))

    grid = _grid(settings, items)
    trials: list[Trial] = []
    with progress.task("tune", len(grid) + 1, unit="trials") as advance:

        def judge(name: str, tried: dict[str, TrainSettings], shown: TrainSettings) -> None:
            cost = kept.get(shown)
            if cost is None:
                asked = questions(frozen, tried, seed=settings.seed, progress=SILENT)
                if shown.method != "mixture":  # an ensemble's similarities are averaged
                    asked = [replace(one, scores=one.scores.mean(0, keepdim=True)) for one in asked]
                cost = stacked_weights(asked)[1]
                kept.add(shown, cost)
            trials.append(Trial(name, shown, cost))
            advance(1)

        for name, shown in grid.items():
            parts = members(shown, items)  # one, unless it is an ensemble
            judge(name, {f"{name}, {part}": made for part, made in parts.items()}, shown)
        best = min(trials, key=lambda trial: trial.cross_entropy).settings
        mixed = replace(
            settings,
            method="mixture",
            ensemble=1,
            noise_variance=best.noise_variance,
            inter_hub_temperature=best.inter_hub_temperature,
            inter_leaf_temperature=best.inter_leaf_temperature,
        )
        judge("mixture", candidates(mixed, items), mixed)
    trials.sort(key=lambda trial: trial.cross_entropy)
    with replacing(out) as temporary:
        temporary.write_text(as_toml(trials[0].settings), encoding="utf-8")
    kept.remove()
    return Tuning(trials)


def as_toml(settings: TrainSettings) -> str:
    """The method, and the settings that are not the defaults, as lines of TOML."""
    changed = {
        setting.name: value
        for setting in fields(settings)
        if (value := getattr(settings, setting.name)) != setting.default or setting.name == "method"
    }
    # JSON writes strings, numbers and booleans as TOML does.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in changed.items())


def _grid(settings: TrainSettings, items: int) -> dict[str, TrainSettings]:
    """The trials, by a name that says what is tried."""
    tried = shapes(settings, items)
    tried.pop("projectors", None)  # linear ones, with settings that suit two layers
    return {
        f"{shape}, noise {variance:g}, temperature {temperature:g}": replace(
            tried[shape],
            noise_variance=variance,
            inter_hub_temperature=temperature,
            inter_leaf_temperature=temperature,
        )
        for shape, variance, temperature in product(reversed(tried), NOISE_VARIANCES, TEMPERATURES)
    }


class _Kept:
    """Costs of trials in a file, so that nothing that was computed is lost."""

    def __init__(self, path: Path, fingerprints: Sequence[str]) -> None:
        self.path, self.fingerprints = path, fingerprints
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        # The last line of a run that was killed may be torn; one that is damaged is tried again.
        whole = [line for line in lines if unsealed_line(line) is not None]
        if whole != lines:
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(whole))
        self.costs: dict[str, float] = dict(unsealed_line(line) for line in whole)

    def get(self, settings: TrainSettings) -> float | None:
        return self.costs.get(self._key(settings))

    def add(self, settings: TrainSettings, cost: float) -> None:
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(sealed_line([self._key(settings), cost]))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _key(self, settings: TrainSettings) -> str:
        told: dict[str, Any] = {"settings": asdict(settings), "memories": list(self.fingerprints)}
        return xxhash.xxh3_128_hexdigest(json.dumps(told, sort_keys=True).encode())
