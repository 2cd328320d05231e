"""Training a bridge, from memories to the artefact; the loop itself is in `bridge.training.run`."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bridge.artefact import Bridge, BridgedSpace, MemoryRecord, load
from bridge.config import TrainSettings, load_settings
from bridge.methods.closed import solve
from bridge.methods.mixture import members, weigh
from bridge.projector import AnyProjector, Mixture
from bridge.runs.layout import ABOUT_FILE
from bridge.runs.naming import chosen_folder
from bridge.runs.record import begin_run, finish_run, plan_hash, read_run
from bridge.tcl.fusion import Fusion
from bridge.tcl.requirements import check_items
from bridge.tracking.reporting import Reporter, tracked
from bridge.tracking.tracker import Tracker
from bridge.training.checkpoint import load_weights, save_weights, shared_checkpoint
from bridge.training.distributed import ALONE, Ranks
from bridge.training.folder import gather_metrics, open_folder, part_folder, placed, tidy_folder
from bridge.training.held_out import held_out_scores
from bridge.training.leaf_rows import at_hand, check_resident, check_tasks
from bridge.training.requirements import check_requirements
from bridge.training.resemblance import check_resemblance
from bridge.training.run import Run
from bridge.training.training_set import (
    CheckedMemories,
    FrozenRows,
    build_training_set,
    check_memories,
    load_rows,
)
from features.device import resolve_device
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.provenance import merged
from features.products import fast_dtype
from features.progress import SILENT, Progress
from features.tasks import Tasks

WEIGHT = "weight of "  # begins the names of a mixture's weights among the metrics


def train(
    hub: Sequence[Memory],
    leaf: Sequence[Memory],
    out: str | Path | None = None,
    settings: TrainSettings | None = None,
    *,
    paired: bool = False,
    align: bool = False,
    trust_encoder: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    cache: bool = True,
    tasks: Tasks | None = None,
    trackers: Sequence[Tracker] = (),
    command: Sequence[str] | None = None,
    progress: Progress = SILENT,
    ranks: Ranks = ALONE,
) -> Bridge:
    """Train a bridge into the folder `out`, beside how it came to be: a run.

    out: unset, a new folder `runs/TIME-SPACES-METHOD` of the working folder, or that of an
    unfinished run of the same; the bridge has its name.

    hub: two memories of the same items, one of each space. leaf: memories of the modalities
    that only one space knows; without any, the bridge is trained on the hub items alone.
    settings: the preset `best` unless given.
    paired: `hub` holds true pairs of different modalities. align: use the hub ids that match.
    trust_encoder: accept memories of one space from different encoders.
    resume: accept a finished bridge of the same training. An unfinished one is always
    continued, to the same weights as an undisturbed run.
    cache: keep large pseudo pairs beside the leaf memories, and use those that are kept.
    tasks: processes or a cluster that retrieve pseudo pairs; leaf memories stay on the disk.
    trackers: get the figures of every epoch; see `bridge.tracking.tracker`.
    command: that the user gave, for the record.
    ranks: the processes that train together, from `bridge.training.launch`; each calls this alike,
    and the first one writes and shows progress.
    Raises UserError if memories do not fit together, the output exists, or another process trains
    into it.
    """
    settings = settings or load_settings(preset="best")
    where = resolve_device(ranks.device or device)
    progress = progress if ranks.first else SILENT
    sources = check_memories(hub, leaf, paired=paired, align=align, trust_encoder=trust_encoder)
    check_requirements(
        settings, sources.spaces, [name for name, has in sources.leaf.items() if has]
    )
    check_items(settings, sources.hub, sources.leaf)
    check_tasks(settings, where, tasks)
    records = _records(sources, paired=paired)
    plan: dict[str, Any] = {
        "device": f"{where.type} {fast_dtype(where)}",  # which decides the precision
        "settings": asdict(settings),
        "memories": [[record.role, record.fingerprint] for record in records],
    }
    _check_alike(plan, ranks)
    choose = partial(chosen_folder, plan, sources.spaces, settings.kind, resume=resume)
    with placed(out, choose, ranks) as folder:
        if ranks.told(lambda: (folder / ABOUT_FILE).exists()) and not overwrite:
            return _finished(folder, records, settings, resume=resume, device=device, ranks=ranks)
        goes_on = ranks.told(lambda: open_folder(folder, plan, overwrite=overwrite))
        frozen = load_rows(
            sources,
            holdout=settings.holdout,
            seed=settings.seed,
            device=where,
            # The first process retrieves for all; the others need a leaf for little else.
            stream=settings.stream if ranks.first or at_hand(settings) else "always",
            cache=cache,
            ranks=ranks,
            tasks=tasks,
        )
        check_resident(settings, frozen.leaf)
        if ranks.first:
            check_resemblance(frozen, sources)
            run = begin_run(folder, settings, plan, command=command)
        shown = trackers if ranks.first else ()
        with tracked(shown, folder, plan["settings"], continued=goes_on) as reporter:
            fit = _mixed if settings.has_parts else _fitted
            projectors, metrics, matcher = fit(frozen, settings, folder, plan, progress, reporter)
            if settings.has_parts or settings.method != "projectors":  # no epochs of its own
                reporter.log(1, metrics, part="bridge")
        made = Bridge(
            folder.resolve().name,
            [_bridged(memory, sources) for memory in sources.hub],
            projectors,
            settings,
            memories=records,
            metrics=metrics,
            versions=_versions(),
            matcher=matcher,
        )
        if ranks.first:
            made.save(folder)
            finish_run(folder, run)
            tidy_folder(folder)
    return made


Fitted = tuple[Mapping[str, AnyProjector], Mapping[str, float], Fusion | None]


def _fitted(
    frozen: FrozenRows,
    settings: TrainSettings,
    out: Path,
    plan: dict[str, Any],
    progress: Progress,
    reporter: Reporter,
    part: str = "",
) -> Fitted:
    """Projectors by one method, what was measured, and a fusion encoder where one was trained.

    Continued from a checkpoint in `out`.
    """
    if settings.method != "projectors":
        projectors = solve(frozen, settings)
        return projectors, held_out_scores(projectors, frozen), None
    device = next(iter(frozen.hub.values())).device
    found = shared_checkpoint(out, frozen.ranks)
    data = build_training_set(frozen, settings, progress=progress)
    report = reporter.of_part(part)
    kept = out if frozen.ranks.first else None
    run = Run(kept, settings, data, plan, device, progress=progress, report=report)
    if found is not None:
        run.restore(*found)
    run.fit(progress)
    return run.projectors, run.last, run.matcher


def _mixed(
    frozen: FrozenRows,
    settings: TrainSettings,
    out: Path,
    plan: dict[str, Any],
    progress: Progress,
    reporter: Reporter,
) -> Fitted:
    """All parts of a mixture or ensemble, each in a folder of its own until the bridge is saved."""
    tried = members(settings, len(next(iter(frozen.hub.values()))))
    first = frozen.ranks.first
    state = frozen.ranks.told(lambda: load_weights(out))
    if state is None:
        weights = dict.fromkeys(tried, 1 / len(tried))
        if settings.method == "mixture":
            weights = weigh(frozen, settings, progress=progress)
        state = {"plan": plan, "weights": weights}
        if first:
            save_weights(out, state)
    weights = state["weights"]
    parts = []
    for name in weights:
        folder = part_folder(out, name)
        if first:
            folder.mkdir(parents=True, exist_ok=True)
        parts.append(_fitted(frozen, tried[name], folder, plan, progress, reporter, name)[0])
    if first:
        gather_metrics(out, weights)
    mixed = {
        space: Mixture([part[space] for part in parts], list(weights.values())).eval()
        for space in frozen.hub
    }
    shares = {f"{WEIGHT}{name}": weight for name, weight in weights.items()}
    return mixed, {**shares, **held_out_scores(mixed, frozen)}, None


def _check_alike(plan: Mapping[str, Any], ranks: Ranks) -> None:
    """Raise UserError unless all processes train the same."""
    mine = plan_hash(plan)
    if ranks.told(lambda: mine) != mine:
        raise UserError(
            f"process {ranks.rank} of {ranks.size} has other memories or settings than the first, "
            "or another kind of device: start all of them alike"
        )


def _records(sources: CheckedMemories, *, paired: bool) -> list[MemoryRecord]:
    leaves = [memory for memories in sources.leaf.values() for memory in memories]
    roles = [("pairs" if paired else "hub", memory) for memory in sources.hub]
    roles += [("leaf", memory) for memory in leaves]
    return [
        MemoryRecord(
            str(memory.path), role, memory.space, memory.modality, len(memory), memory.fingerprint
        )
        for role, memory in roles
    ]


def _bridged(memory: Memory, sources: CheckedMemories) -> BridgedSpace:
    held = [memory, *sources.leaf[memory.space]]
    encoder = merged([one.header.encoder for one in held])
    known = encoder.get("modalities") or [one.modality for one in held]
    return BridgedSpace(memory.space, memory.dimension, tuple(dict.fromkeys(known)), encoder)


def _finished(
    out: Path,
    records: Sequence[MemoryRecord],
    settings: TrainSettings,
    *,
    resume: bool,
    device: str,
    ranks: Ranks,
) -> Bridge:
    if not resume:
        raise UserError(
            f"{out} holds a finished bridge: pass --overwrite to train it again, --resume to keep "
            "it if it is the result of this command, or choose another output"
        )
    made = load(out, device=ranks.device or device)
    same = [m.fingerprint for m in made.memories] == [r.fingerprint for r in records]
    if not same or made.settings != settings:
        raise UserError(
            f"{out} was trained on other memories or with other settings than this command's: "
            "pass --overwrite to replace it, or choose another output"
        )
    if not ranks.first:
        return made
    tidy_folder(out)  # of a run that was killed after its last step
    run = read_run(out)
    if run is not None and run.finished is None:
        finish_run(out, run)
    return made


def _versions() -> dict[str, str]:
    return {
        "mcr-bridge": version("mcr-bridge"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
