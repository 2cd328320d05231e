"""What an evaluation found, and of what: the file that `mcr eval` writes and `mcr compare` reads.

JSON. `figures` and `intervals` are by part, such as a direction of retrieval, and name; `samples`
have, by part, what was measured of each, so that results can be compared sample by sample.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import xxhash
from jaxtyping import Float
from torch import Tensor

from bridge.artefact import Bridge
from bridge.evaluation.statistics import STATISTICS
from bridge.metrics.bootstrap import MIN_RESAMPLES, percentile_interval, resampled_samples
from bridge.runs.layout import EVALUATION
from features.datasets.annotations import Annotations
from features.errors import UserError
from features.files import replacing, require_file
from features.memories.memory import Memory
from features.progress import SILENT, Progress
from features.sealed import read_sealed, sealed

VERSION = 1
ByPart = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Samples:
    """What was measured of each sample of a part.

    ids: unique names. columns: a number for each, by what it is.
    units: what a bootstrap draws as one, a class or a video; unset, each sample for itself.
    """

    ids: Sequence[str]
    columns: Mapping[str, Sequence[float]]
    units: Sequence[str] | None = None

    def tensors(self) -> dict[str, Float[Tensor, " n"]]:
        """The columns, in float64."""
        return {
            name: torch.as_tensor(list(column), dtype=torch.float64)
            for name, column in self.columns.items()
        }

    def numbered_units(self) -> Tensor:
        """The unit of each sample, from 0, in the order in which they first appear."""
        names = list(self.units if self.units is not None else self.ids)
        number = {name: i for i, name in enumerate(dict.fromkeys(names))}
        return torch.tensor([number[name] for name in names])


@dataclass(frozen=True)
class Result:
    """An evaluation: its figures, and all that they depend on.

    counts: how many samples there are, and what was left out, by what.
    settings: of the protocol. memories: by their part in it. files: annotations, by theirs.
    seed, resamples: of the intervals; a protocol without samples has none.
    """

    protocol: str
    figures: ByPart
    bridge: Mapping[str, Any] | None
    memories: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    counts: Mapping[str, int]
    intervals: ByPart = field(default_factory=dict)
    samples: Mapping[str, Samples] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    seed: int = 0
    resamples: int = 0
    versions: Mapping[str, str] = field(default_factory=lambda: versions())

    def about(self, *, samples: bool = True) -> dict[str, Any]:
        """What the file says; without the samples, what a table needs."""
        told = {"format": EVALUATION, "version": VERSION, **asdict(self)}
        if not samples:
            told.pop("samples")
        return told

    @property
    def name(self) -> str:
        """A file name of this protocol, bridge, memories, files and settings."""
        by = (self.protocol, self.bridge, self.memories, self.files, self.settings, self.seed)
        text = json.dumps(by, sort_keys=True, default=str)
        return f"{self.protocol}-{xxhash.xxh3_64_hexdigest(text.encode())[:8]}.json"


def measured(
    protocol: str,
    samples: Mapping[str, Samples],
    *,
    bridge: Bridge | None,
    memories: Mapping[str, Memory],
    settings: Mapping[str, Any],
    counts: Mapping[str, int],
    annotations: Mapping[str, Annotations | Mapping[str, str]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Result:
    """The result of a protocol that measures samples: its figures, each with a 95 % interval.

    Raises UserError for fewer than MIN_RESAMPLES resamples; 0 makes no intervals.
    """
    if resamples and resamples < MIN_RESAMPLES:
        raise UserError(
            f"resamples is {resamples} but a 95 % interval needs at least {MIN_RESAMPLES}: give "
            "more, such as 1000, or 0 for no intervals"
        )
    figures: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    with progress.task("resample", resamples * len(samples), unit="resamples") as advance:
        for part, one in samples.items():
            columns, statistic = one.tensors(), STATISTICS[protocol]
            once = torch.ones(1, len(one.ids), dtype=torch.float64)
            figures[part] = {n: float(v[0]) for n, v in statistic(columns, once).items()}
            if not resamples:
                continue
            unit = one.numbered_units()
            generator = torch.Generator().manual_seed(seed)
            drawn: dict[str, list[Tensor]] = {name: [] for name in figures[part]}
            for times in resampled_samples(unit, resamples=resamples, generator=generator):
                for name, values in statistic(columns, times).items():
                    drawn[name].append(values)
                advance(len(times))
            ends = {name: percentile_interval(torch.cat(rows)) for name, rows in drawn.items()}
            intervals[part] = {n: [float(low), float(high)] for n, (low, high) in ends.items()}
    return Result(
        protocol=protocol,
        figures=figures,
        bridge=of_bridge(bridge),
        memories={name: of_memory(memory) for name, memory in memories.items()},
        settings=dict(settings),
        counts=dict(counts),
        intervals=intervals,
        samples=dict(samples),
        files={name: _of_file(one) for name, one in (annotations or {}).items()},
        seed=seed,
        resamples=resamples,
    )


def check_place(path: Path) -> None:
    """Raise UserError if a result cannot be written there: before it is computed, not after."""
    if path.is_dir():
        raise UserError(f"{path} is a folder but a result is a file: write {path}/NAME.json")
    nearest = next(one for one in path.absolute().parents if one.exists())
    if not nearest.is_dir():
        raise UserError(
            f"{path} cannot be made because {nearest} is a file, not a folder: choose another "
            "output"
        )


def write_result(result: Result, path: Path) -> Path:
    """Write a result; an earlier one of this name is replaced. Raises UserError if it cannot be."""
    check_place(path)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(sealed(result.about()), indent=1) + "\n", encoding="utf-8")
    return path


def read_result(path: Path) -> Result:
    """Read a result. Raises UserError if it is missing, damaged or something else."""
    try:
        told = read_sealed(require_file(path, "result"))
    except ValueError as error:
        raise UserError(
            f"{path} is not a result of `mcr eval`, or it is damaged ({error}): evaluate again"
        ) from error
    if told.get("format") != EVALUATION:
        raise UserError(f"{path} is JSON but not a result of `mcr eval`: give what that wrote")
    try:
        if told["version"] > VERSION:
            raise UserError(
                f"{path} has format {told['version']}, this program reads up to {VERSION}: upgrade "
                "mcr-bridge"
            )
        told["samples"] = {part: _samples(one) for part, one in told["samples"].items()}
        return Result(**{key: told[key] for key in told if key not in ("format", "version")})
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({error}): evaluate again") from error


def _samples(told: Mapping[str, Any]) -> Samples:
    """Raises TypeError, ValueError or OverflowError for what is not a number for each name."""
    samples = Samples(**told)
    for names in (samples.ids, samples.units):
        if names is not None and not (
            isinstance(names, list)
            and len(names) == len(samples.ids)
            and all(isinstance(one, str) for one in names)
        ):
            raise TypeError("the names of its samples are no list of strings")
    if not isinstance(samples.columns, dict):
        raise TypeError("the columns of its samples are no object")
    for name, column in samples.columns.items():
        numbers = isinstance(column, list) and all(isinstance(one, int | float) for one in column)
        if not numbers or len(column) != len(samples.ids):
            raise TypeError(f"the samples' {name} are not a number for each")
    samples.tensors()
    return samples


def of_memory(memory: Memory) -> dict[str, Any]:
    """Which memory it was."""
    return {
        "path": str(memory.path),
        "fingerprint": memory.fingerprint,
        "space": memory.space,
        "modality": memory.modality,
        "items": len(memory),
    }


def of_bridge(bridge: Bridge | None) -> dict[str, Any] | None:
    """Which bridge it was."""
    return None if bridge is None else {"name": bridge.name, "fingerprint": bridge.fingerprint}


def _of_file(annotations: Annotations | Mapping[str, str]) -> dict[str, str]:
    if isinstance(annotations, Annotations):
        return {"path": str(annotations.path), "fingerprint": annotations.fingerprint}
    return dict(annotations)


def versions() -> dict[str, str]:
    """Of this program and what it computes with."""
    return {
        "mcr-bridge": version("mcr-bridge"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy")},
    }
