"""What `--dry-run` says: what would be done, and what it would take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from bridge.config import TrainSettings
    from bridge.recipe.planning import Planned
    from bridge.recipe.step import Recipe, Step
    from features.extraction.estimates import Estimate
    from features.extraction.items import Source
    from features.extraction.shards import Shard
    from features.memories.memory import Memory
    from features.space import Modality

_UNITS = ("B", "kB", "MB", "GB", "TB")
_HEADER = ["items", "disk", "memory", "time"]


def without_downloads() -> None:
    """Let encoders be loaded only from what is here: looking must not fetch gigabytes."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def show_estimate(what: str, out: Path | None, estimate: Estimate, *, json: bool) -> None:
    """Print what one command would do. out: None if what it makes lies on another machine."""
    from features.search.milvus.place import LOCAL_SUFFIX

    if json:
        place = {} if out is None else {"out": str(out), **_free(out)}
        print_json({"would": what, **_as_json(estimate), **place})
        return
    typer.echo(f"would {what}")
    if out is None:
        typer.echo(f"{estimate.items:,} items: {estimate.how}")
    else:
        print_table(_HEADER, [_cells(estimate)])
        typer.echo(f"time: {estimate.how}")
        _room(out, [estimate])
        if out.exists() and out.suffix != LOCAL_SUFFIX:  # which holds several
            note(f"{out} exists: without --overwrite or --resume the command would refuse it")
    typer.echo("nothing was written")


def show_extraction(
    source: Source,
    spec: str,
    modality: Modality,
    out: Path,
    *,
    shard: Shard | None,
    batch_size: int,
    dtype: str,
    precision: str,
    device: str,
    local: bool,
    json: bool,
) -> None:
    """Print what an extraction would do, some of its items embedded."""
    from features.encoders import LocalEncoder, load_encoder
    from features.extraction.estimates import estimate_extraction, items_done, measure_embedding

    without_downloads()
    if shard is not None:
        items = source.items[shard.rows(len(source.items), batch_size)]
        source, out = replace(source, items=items), shard.path(out)
    encoder = load_encoder(spec, device=device, precision=precision)
    encoder.space.require(modality)
    has_parts = local and isinstance(encoder, LocalEncoder)
    estimate = estimate_extraction(
        source,
        modality,
        space=encoder.space.name,
        dimension=encoder.space.dimension,
        dtype="float32" if dtype == "float32" else "float16",
        local_length=encoder.local_length(modality) if has_parts else 0,  # type: ignore[attr-defined]
        done=items_done(out, batch_size, len(source.items)),
        rate=measure_embedding(source, encoder, modality),
    )
    what = f"embed {len(source.items):,} {modality} items with {spec} into {out}"
    show_estimate(what, out, estimate, json=json)


def show_training(
    hub: Sequence[Path],
    leaf: Sequence[Path],
    out: Path,
    settings: TrainSettings,
    *,
    device: str,
    json: bool,
) -> None:
    """Print what a training would do."""
    from bridge.training.estimates import estimate_training, size_of
    from features.memories.sharded import open_memories

    estimate = estimate_training(
        [size_of(memory) for memory in open_memories(hub)],
        [size_of(memory) for memory in open_memories(leaf)],
        settings,
        device=device,
    )
    what = f"train a bridge by {settings.kind} on {estimate.items:,} hub items into {out}"
    show_estimate(what, out, estimate, json=json)


def show_index(memory: Memory, out: str, kind: str, *, json: bool) -> None:
    """Print what an index would be."""
    import numpy as np

    from features.extraction.estimates import SAMPLE, estimate_index
    from features.search.backends import is_address

    what = f"index {len(memory):,} embeddings of {memory.dimension} dimensions into {out}"
    if is_address(out):
        from features.search.milvus.estimates import estimate as estimate_milvus
        from features.search.milvus.place import parse_place

        place = parse_place(out)
        show_estimate(what, place.local, estimate_milvus(memory, place, kind), json=json)
        return
    rows = memory.tensor(np.arange(min(SAMPLE, len(memory)))).numpy()
    estimate = estimate_index(kind, len(memory), memory.dimension, rows)
    show_estimate(what, Path(out), estimate, json=json)


def show_plan(recipe: Recipe, steps: Sequence[Step], *, force: bool, json: bool) -> None:
    """Print what a recipe would do, step by step."""
    from bridge.recipe.planning import plan
    from cli.progress import BarProgress
    from cli.vocabulary import told_command, vocabulary

    without_downloads()
    planned = plan(recipe, steps, force=force, progress=BarProgress())
    known = [one.estimate for one in planned if one.estimate is not None]
    if json:
        words = {
            step.name: told_command(step.command, step.options, vocabulary()[step.command])
            for step in steps
            if step.command in vocabulary()
        }
        print_json({
            "recipe": str(recipe.path),
            "steps": [
                {
                    "step": one.decision.step.name,
                    "action": one.decision.action,
                    "why": one.decision.why,
                    "command": words.get(one.decision.step.name),
                    **({} if one.estimate is None else _as_json(one.estimate)),
                    "unknown": one.unknown,
                }
                for one in planned
            ],
            **_free(recipe.folder),
        })  # fmt: skip
        return
    print_table(
        ["step", "", *_HEADER, "why"],
        [
            [
                one.decision.step.name,
                "skip" if one.decision.action == "skip" else "run",
                *(["", "", "", ""] if one.estimate is None else _cells(one.estimate)),
                one.decision.why,
            ]
            for one in planned
        ],
    )
    for how, names in _reasons(planned).items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        typer.echo(f"{names[0]}{more}: {how}")
    _room(recipe.folder, known, whole=not any(one.unknown for one in planned))
    typer.echo("nothing was written")


def _reasons(planned: Sequence[Planned]) -> dict[str, list[str]]:
    """How estimates were made, or why there are none, with the steps' names."""
    found: dict[str, list[str]] = {}
    for one in planned:
        how = one.unknown or (one.estimate.how if one.estimate is not None else "")
        if how:
            found.setdefault(how, []).append(one.decision.step.name)
    return found


def _cells(estimate: Estimate) -> list[str]:
    return [
        f"{estimate.items:,}",
        told_bytes(estimate.disk),
        told_bytes(estimate.memory) if estimate.memory else "",
        "?" if estimate.seconds is None else told_seconds(estimate.seconds),
    ]


def _room(out: Path, estimates: Sequence[Estimate], *, whole: bool = True) -> None:
    """What all of it takes. whole: nothing is left out because it cannot be known yet."""
    disk = sum(one.disk for one in estimates)
    peak = disk + max((one.peak for one in estimates), default=0)
    free = _free(out)
    known = [one.seconds for one in estimates if one.seconds is not None]
    if not estimates:
        return
    memory = max(one.memory for one in estimates)
    typer.echo(
        f"in all {told_bytes(disk)} on disk, {told_bytes(peak)} while it runs, of "
        f"{told_bytes(free['free_disk'])} free; at most {told_bytes(memory)} of memory, of "
        f"{told_bytes(free['free_memory'])} free; "
        f"{'' if whole else 'without what cannot be told yet, '}{told_seconds(sum(known))}"
    )
    if peak > free["free_disk"]:
        note(
            f"the disk will be full: {told_bytes(peak)} are needed and "
            f"{told_bytes(free['free_disk'])} are free"
        )


def _free(out: Path) -> dict[str, int]:
    import torch

    from features.room import free_bytes

    there = next(folder for folder in [out, *out.absolute().parents] if folder.exists())
    return {
        "free_disk": shutil.disk_usage(there).free,
        "free_memory": free_bytes(torch.device("cpu")),
    }


def _as_json(estimate: Estimate) -> dict[str, Any]:
    return {
        "items": estimate.items,
        "disk": estimate.disk,
        "peak_disk": estimate.disk + estimate.peak,
        "memory": estimate.memory,
        "seconds": estimate.seconds,
        "how": estimate.how,
    }


def told_bytes(count: int) -> str:
    """Bytes for people.

    >>> told_bytes(1_500_000)
    '1.5 MB'
    """
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def told_seconds(seconds: float) -> str:
    """A time for people, as roughly as it is known.

    >>> told_seconds(0.2), told_seconds(90), told_seconds(7300)
    ('under 1 s', '1.5 min', '2.0 h')
    """
    if seconds < 1:
        return "under 1 s"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} s" if unit == "s" else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"
