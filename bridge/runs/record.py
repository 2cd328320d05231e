"""How a bridge came to be, beside it: `run.json`, and `settings.toml` for `mcr train --config`.

What `bridge.json` says already, settings, memories, versions and figures, is not said again;
`settings.toml` has the settings in the form in which they are given.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from bridge.runs.git import git_state
from bridge.runs.layout import RUN_FILE, SETTINGS_FILE
from features.errors import UserError
from features.files import replacing
from features.sealed import read_sealed, sealed, sealed_text

if TYPE_CHECKING:
    from bridge.config import TrainSettings

FORMAT = "mcr-bridge run"
VERSION = 1


@dataclass(frozen=True)
class Start:
    """One time that a run was started, or continued.

    when: local time with its offset, ISO 8601. command: as a shell takes it; None from Python.
    git: see `git_state`; None outside of a repository. device: what it computed on.
    """

    when: str
    command: str | None
    git: Mapping[str, Any] | None
    device: str


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` says.

    plan: hash of the settings, memories and device; the same plan continues the run.
    finished: when the bridge was saved; None while it is not.
    """

    plan: str
    starts: tuple[Start, ...]
    finished: str | None = None


def begin_run(
    folder: Path,
    settings: TrainSettings,
    plan: Mapping[str, Any],
    *,
    command: Sequence[str] | None,
) -> RunRecord:
    """Write that a run starts or goes on now. An unfinished one of the same plan goes on."""
    started = Start(
        _now(),
        None if command is None else shlex.join(command),
        git_state(Path.cwd()),
        str(plan["device"]),
    )
    earlier = read_run(folder) if goes_on(folder, plan) else None
    record = RunRecord(plan_hash(plan), (*(earlier.starts if earlier else ()), started))
    _write(record, folder)
    with replacing(folder / SETTINGS_FILE) as temporary:
        temporary.write_text(sealed_text(settings_toml(settings)), encoding="utf-8")
    return record


def finish_run(folder: Path, record: RunRecord) -> None:
    """Write that the bridge is saved."""
    _write(replace(record, finished=_now()), folder)


def goes_on(folder: Path, plan: Mapping[str, Any]) -> bool:
    """Whether `folder` holds an unfinished run of this plan."""
    try:
        found = read_run(folder)
    except UserError:
        return False  # a damaged record is written anew
    return found is not None and found.finished is None and found.plan == plan_hash(plan)


def read_run(folder: Path) -> RunRecord | None:
    """The record in `folder`, or None. Raises UserError if it is damaged."""
    path = folder / RUN_FILE
    if not path.exists():
        return None
    try:
        told = read_sealed(path)
        if told["format"] != FORMAT:
            raise ValueError(f"its format is not '{FORMAT}'")
        version = int(told["version"])
        starts = tuple(Start(**one) for one in told["starts"]) if version <= VERSION else ()
        record = RunRecord(told["plan"], starts, told["finished"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it, or train again") from error
    if version > VERSION:
        raise UserError(
            f"{path} has format {version}, this program reads up to {VERSION}: upgrade mcr-bridge"
        )
    return record


def plan_hash(plan: Mapping[str, Any]) -> str:
    """Identifies what is trained on what, and on which device."""
    return xxhash.xxh3_128_hexdigest(json.dumps(plan, sort_keys=True).encode())


def settings_toml(settings: TrainSettings) -> str:
    """All settings that this kind of bridge has, as lines of TOML; unset ones as comments."""
    lines = ["# All settings of this run; `mcr train --config` takes this file."]
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if settings.kind not in setting.metadata.get("of", settings.kind).split():
            continue
        # JSON writes strings, numbers and booleans as TOML does.
        told = f"{setting.name} = {json.dumps(value)}"
        lines.append(f"# {setting.name} is unset" if value is None else told)
    return "\n".join(lines) + "\n"


def _write(record: RunRecord, folder: Path) -> None:
    told = {"format": FORMAT, "version": VERSION, **asdict(record)}
    with replacing(folder / RUN_FILE) as temporary:
        temporary.write_text(json.dumps(sealed(told), indent=2) + "\n", encoding="utf-8")


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
