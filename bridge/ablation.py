"""The ablation of C-MCR: what each of its parts is worth, by training without it.

Every variant is trained with the same seeds, which decide initial weights, batches, noise and what
is held out, so that a variant is compared with the full recipe seed by seed.
Source: the ablation study of C-MCR, arXiv 2305.14381.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bridge.artefact import Bridge, MemoryRecord
from bridge.config import TrainSettings
from bridge.evaluation.comparison import MeanRetrieval
from bridge.evaluation.retrieval import CrossModalRetrieval, evaluate_retrieval, relevance_of
from bridge.metrics.retrieval import CUTOFFS, Retrieval
from bridge.runs.layout import ABOUT_FILE
from bridge.training.train import train
from bridge.training.training_set import CheckedMemories, check_memories
from bridge.variants import CHANGES, FULL, variants
from features.errors import UserError
from features.files import replacing
from features.memories.memory import Memory
from features.memories.provenance import check_encoders, merged
from features.progress import SILENT, Advance, Progress
from features.sealed import read_sealed, sealed

RESULT_FILE = "ablation.json"


@dataclass(frozen=True)
class Measured:
    """One figure of a variant, over the seeds.

    deviation: the standard deviation of a sample (ddof 1).
    difference: the mean difference to `full` of the same seed; standard_error: of that mean,
    the differences' standard deviation over the root of their number. Full has neither.
    """

    mean: float
    deviation: float
    difference: float | None
    standard_error: float | None


@dataclass(frozen=True)
class AblatedRun:
    """One training of a variant; `mean` is that of both directions."""

    seed: int
    bridge: str
    fingerprint: str
    mean: MeanRetrieval
    forward: Retrieval
    backward: Retrieval


@dataclass(frozen=True)
class AblatedVariant:
    """A variant over the seeds: means of both directions, and every run; `recall` has R@1 alone."""

    name: str
    recall: dict[int, Measured]
    mean_average_precision: Measured
    runs: tuple[AblatedRun, ...]


@dataclass(frozen=True)
class Ablation:
    """What was measured, `full` first.

    query, gallery, relevance, chance: as in `CrossModalRetrieval`, the same for all runs.
    left_out: by variant, why it was not trained. settings: of the full recipe and the first seed.
    """

    settings: TrainSettings
    memories: tuple[MemoryRecord, ...]
    query: str
    gallery: str
    relevance: str
    chance: float
    seeds: tuple[int, ...]
    variants: tuple[AblatedVariant, ...]
    left_out: dict[str, str]


def ablate(
    hub: Sequence[Memory],
    leaf: Sequence[Memory],
    query: Memory,
    gallery: Memory,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    seeds: int = 5,
    align: bool = False,
    trust_encoder: bool = False,
    device: str = "auto",
    cache: bool = True,
    progress: Progress = SILENT,
) -> Ablation:
    """Train C-MCR whole and without each of its parts, and measure retrieval between two memories.

    hub, leaf, align, trust_encoder, cache: as `train` takes them. out: a folder for the bridges,
    called VARIANT-seedN, and all figures, in `ablation.json`. An interrupted ablation is continued,
    and finished bridges are kept, so that more seeds can be added.
    settings: of the full recipe, objective cmcr. seeds: how many, from the settings' seed on. A
    variant that would be the same as full, or have nothing to train on, is left out.
    Raises UserError for other objectives, fewer than two seeds, a folder with anything else than
    an ablation of the same memories and settings, and what `train` and `evaluate_retrieval`
    refuse, as far as possible before the first training.
    """
    settings, out = settings or TrainSettings(), Path(out)
    _check_recipe(settings, seeds)
    sources = check_memories(hub, leaf, align=align, trust_encoder=trust_encoder)
    relevance = relevance_of(query, gallery)
    for memory in (query, gallery):
        _check_measurable(memory, sources, trust_encoder=trust_encoder)
    names, left_out = variants(settings, [space for space, held in sources.leaf.items() if held])
    memories = _records(sources, query, gallery)
    _claim(out, settings, memories)
    numbers = tuple(range(settings.seed, settings.seed + seeds))
    jobs = [(seed, name) for seed in numbers for name in names]
    runs: dict[str, list[AblatedRun]] = {name: [] for name in names}
    for count, (seed, name) in enumerate(jobs, start=1):
        title = f"{name}, seed {seed}"
        folder = out / f"{name.replace(' ', '-')}-seed{seed}"
        try:
            made = train(
                hub,
                leaf if CHANGES[name].leaf else (),
                folder,
                replace(settings, **CHANGES[name].settings, seed=seed),
                align=align,
                trust_encoder=trust_encoder,
                device=device,
                # What cannot be continued in this ablation's folder is trained again.
                overwrite=not (folder / ABOUT_FILE).exists(),
                resume=True,
                cache=cache,
                progress=_Titled(f"{title} ({count} of {len(jobs)})", progress),
            )
        except UserError as error:
            raise UserError(f"{title}: {error}", details=error.details) from error
        # Checked above, where it would also have been told what is taken on trust.
        measured = evaluate_retrieval(made, query, gallery, trust_encoder=True)
        runs[name].append(_run(made, seed, measured))
    result = Ablation(
        settings=settings,
        memories=memories,
        query=query.modality,
        gallery=gallery.modality,
        relevance=relevance.kind,
        chance=relevance.chance,
        seeds=numbers,
        variants=tuple(_summary(name, runs[name], runs[FULL]) for name in names),
        left_out=left_out,
    )
    _write(out, asdict(result))
    return result


def _check_recipe(settings: TrainSettings, seeds: int) -> None:
    if settings.kind != "cmcr":
        raise UserError(
            f"an ablation takes parts of C-MCR away but these settings make a bridge by "
            f"{settings.kind}: leave the method (projectors) and the objective (cmcr) as they are"
        )
    if seeds < 2:
        raise UserError(f"seeds is {seeds} but a spread needs at least 2: give more, such as 5")


def _check_measurable(memory: Memory, sources: CheckedMemories, *, trust_encoder: bool) -> None:
    """Refuse, before hours of training, a memory that no variant could be measured on."""
    widths = {one.space: one.dimension for one in sources.hub}
    if widths.get(memory.space) != memory.dimension:
        joined = " and ".join(f"{space} ({width}-d)" for space, width in widths.items())
        raise UserError(
            f"{memory.path} holds embeddings of {memory.space} ({memory.dimension}-d) but the hub "
            f"joins {joined}: give embeddings of one of these spaces, as `mcr extract` makes them"
        )
    held = [one for one in sources.hub if one.space == memory.space] + sources.leaf[memory.space]
    check_encoders(
        (f"the training memories of {memory.space}", merged([one.header.encoder for one in held])),
        (str(memory.path), memory.header.encoder),
        remedy="extract it again with the encoder that they came from",
        trust=trust_encoder,
    )


def _records(sources: CheckedMemories, query: Memory, gallery: Memory) -> tuple[MemoryRecord, ...]:
    leaves = [memory for memories in sources.leaf.values() for memory in memories]
    roles = [("hub", memory) for memory in sources.hub] + [("leaf", memory) for memory in leaves]
    return tuple(
        MemoryRecord(
            str(memory.path), role, memory.space, memory.modality, len(memory), memory.fingerprint
        )
        for role, memory in (*roles, ("query", query), ("gallery", gallery))
    )


def _claim(out: Path, settings: TrainSettings, memories: Sequence[MemoryRecord]) -> None:
    """Make `out` the folder of this ablation. Raises UserError if it is another's.

    More seeds can be added to it, other memories be searched, and all be changed while nothing
    is trained.
    """
    wanted: dict[str, Any] = {
        "settings": asdict(settings),
        "memories": [asdict(memory) for memory in memories],
    }
    path = out / RESULT_FILE
    if not path.exists() and out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an ablation's folder: choose another output")
    if not any(out.glob("*/*")):
        _write(out, wanted)
        return
    try:
        found = read_sealed(path)
        before, trained = dict(found["settings"]), _trained(found["memories"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}): remove {out}, or choose another output"
        ) from error
    if trained != _trained(wanted["memories"]):
        raise UserError(
            f"{out} holds an ablation of other hub or leaf memories: give the same to continue it, "
            "or choose another output"
        )
    now: dict[str, Any] = json.loads(json.dumps(wanted["settings"]))
    differing = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted((before.keys() | now.keys()) - {"seed"})
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise UserError(
            f"{out} holds an ablation with other settings ({', '.join(differing)}): give the same "
            "to continue it, or choose another output"
        )


def _trained(memories: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(one["role"], one["fingerprint"]) for one in memories if one["role"] in ("hub", "leaf")]


def _write(out: Path, content: Mapping[str, Any]) -> None:
    with replacing(out / RESULT_FILE) as temporary:
        temporary.write_text(json.dumps(sealed(content), indent=2) + "\n", encoding="utf-8")


def _run(made: Bridge, seed: int, measured: CrossModalRetrieval) -> AblatedRun:
    there, back = measured.forward, measured.backward
    mean = MeanRetrieval(
        {k: (there.recall[k] + back.recall[k]) / 2 for k in CUTOFFS},
        (there.mean_average_precision + back.mean_average_precision) / 2,
    )
    return AblatedRun(seed, made.name, made.fingerprint, mean, there, back)


def _summary(name: str, runs: Sequence[AblatedRun], full: Sequence[AblatedRun]) -> AblatedVariant:
    own, others = ([run.mean for run in one] for one in (runs, full if name != FULL else ()))
    return AblatedVariant(
        name,
        {1: _measured([one.recall[1] for one in own], [one.recall[1] for one in others])},
        _measured(
            [one.mean_average_precision for one in own],
            [one.mean_average_precision for one in others],
        ),
        tuple(runs),
    )


def _measured(values: Sequence[float], full: Sequence[float]) -> Measured:
    """full: its values with the same seeds; none if these are full's own."""
    differences = [one - other for one, other in zip(values, full, strict=bool(full))]
    return Measured(
        fmean(values),
        stdev(values),
        fmean(differences) if differences else None,
        stdev(differences) / sqrt(len(differences)) if differences else None,
    )


@dataclass(frozen=True)
class _Titled:
    """Progress that says whose tasks they are."""

    title: str
    progress: Progress

    def task(
        self, description: str, total: int, *, unit: str = "items", done: int = 0
    ) -> AbstractContextManager[Advance]:
        return self.progress.task(f"{self.title}: {description}", total, unit=unit, done=done)
