"""Training a bridge, from memories to the artefact; the loop itself is in `bridge.run`."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bridge.artefact import ABOUT_FILE, Bridge, BridgedSpace, MemoryRecord, load
from bridge.checkpoint import PROGRESS_FILE, load_checkpoint, remove_checkpoint
from bridge.config import TrainSettings
from bridge.run import METRICS_FILE, Run
from bridge.training_set import CheckedMemories, build_training_set, check_memories
from features.device import resolve_device
from features.errors import UserError
from features.files import explained
from features.memory import Memory
from features.progress import SILENT, Progress
from features.provenance import merged


def train(
    hub: Sequence[Memory],
    leaf: Sequence[Memory],
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    paired: bool = False,
    align: bool = False,
    trust_encoder: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Bridge:
    """Train a bridge into the folder `out`.

    hub: two memories of the same items, one of each space. leaf: memories of the modalities
    that only one space knows; without any, the bridge is trained on the hub items alone.
    paired: `hub` holds true pairs of different modalities. align: use the hub ids that match.
    trust_encoder: accept memories of one space from different encoders.
    resume: accept a finished bridge of the same training. An unfinished one is always
    continued, to the same weights as an undisturbed run.
    Raises UserError if memories do not fit together or the output exists.
    """
    settings = settings or TrainSettings()
    out = Path(out)
    where = resolve_device(device)
    sources = check_memories(hub, leaf, paired=paired, align=align, trust_encoder=trust_encoder)
    records = _records(sources, paired=paired)
    if (out / ABOUT_FILE).exists() and not overwrite:
        return _finished(out, records, settings, resume=resume, device=device)
    plan = {
        "device": where.type,
        "settings": asdict(settings),
        "memories": [[record.role, record.fingerprint] for record in records],
    }
    found = _checkpoint(out, plan, overwrite=overwrite)
    data = build_training_set(sources, settings, device=where, progress=progress)
    run = Run(out, settings, data, plan, where)
    if found is not None:
        run.restore(*found)
    else:
        _prepare(out)
    run.fit(progress)
    made = Bridge(
        out.resolve().name,
        [_bridged(memory, sources) for memory in sources.hub],
        run.projectors,
        settings,
        memories=records,
        metrics=run.last,
        versions=_versions(),
    )
    made.save(out)
    remove_checkpoint(out)
    return made


def _checkpoint(
    out: Path, plan: dict[str, Any], *, overwrite: bool
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Where an unfinished training of the same plan stopped, if there is one."""
    if out.is_file():
        raise UserError(f"{out} is a file but a bridge is a folder: choose another output")
    known = (ABOUT_FILE, METRICS_FILE, PROGRESS_FILE)
    empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not (empty or overwrite or any((out / name).exists() for name in known)):
        raise UserError(
            f"{out} exists and is not a bridge's folder: choose another output, or pass "
            "--overwrite to write the bridge into it"
        )
    try:
        found = load_checkpoint(out)
    except UserError:
        if not overwrite:
            raise
        found = None
    if found is not None and found[1]["plan"] == json.loads(json.dumps(plan)):
        return found
    if found is not None and not overwrite:
        raise UserError(
            f"{out} holds an unfinished training with other memories or settings: use the same "
            "to continue it, pass --overwrite, or choose another output"
        )
    return None


def _prepare(out: Path) -> None:
    """A folder without traces of another training; a bridge in it stays until the new is done."""
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    remove_checkpoint(out)
    (out / METRICS_FILE).unlink(missing_ok=True)


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
) -> Bridge:
    if not resume:
        raise UserError(
            f"{out} holds a finished bridge: pass --overwrite to train it again, --resume to keep "
            "it if it is the result of this command, or choose another output"
        )
    made = load(out, device=device)
    same = [m.fingerprint for m in made.memories] == [r.fingerprint for r in records]
    if not same or made.settings != settings:
        raise UserError(
            f"{out} was trained on other memories or with other settings than this command's: "
            "pass --overwrite to replace it, or choose another output"
        )
    return made


def _versions() -> dict[str, str]:
    return {
        "mcr-bridge": version("mcr-bridge"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
