"""What runs are there, of what, and how good: read from their folders' JSON alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.config import load_settings
from bridge.runs.layout import (
    ABOUT_FILE,
    EVALUATION,
    METRICS_FILE,
    PARTS_FOLDER,
    RESULTS_FOLDER,
    RUN_FILE,
    RUNS_FOLDER,
    SETTINGS_FILE,
)
from bridge.runs.log import read_log
from bridge.runs.record import RunRecord, read_run
from features.errors import UserError
from features.sealed import read_sealed

HELD_OUT = {"held-out R@1": "held_out_r1", "held-out MRR": "held_out_mrr"}


@dataclass(frozen=True)
class Evaluation:
    """A result in a run's folder.

    measures: what was measured on what, the same in all runs that can be compared by it.
    figures: by part and name, as in the result.
    """

    file: str
    protocol: str
    memories: tuple[str, ...]
    measures: str
    figures: Mapping[str, Mapping[str, float]]

    @property
    def headline(self) -> tuple[str, float]:
        """The protocol's first figure, a mean over its parts."""
        name = next(name for figures in self.figures.values() for name in figures)
        values = [figures[name] for figures in self.figures.values() if name in figures]
        return f"{self.protocol} {name}", sum(values) / len(values)


@dataclass(frozen=True)
class RunSummary:
    """A run: what its files say.

    when: it was first started, ISO 8601; of bridges without a record, when they were written.
    kind: the method, or the objective of projectors. epochs: in all, of every part.
    scores: held-out scores by their names, of the whole bridge once it is finished.
    stale: results of another bridge, such as the one that was here before.
    """

    name: str
    folder: str
    finished: bool
    when: str
    kind: str
    settings: Mapping[str, Any]
    memories: Sequence[Mapping[str, Any]] = ()
    epochs: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    evaluations: Sequence[Evaluation] = ()
    stale: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    starts: Sequence[Mapping[str, Any]] = ()

    @property
    def started(self) -> datetime:
        """`when`, comparable across time zones."""
        return datetime.fromisoformat(self.when)

    @property
    def data(self) -> str:
        """The memories in words: `3,560 text + 2,670 audio`; hub items are counted once."""
        told: dict[Any, str] = {}
        for memory in self.memories:
            role, modality = memory["role"], memory["modality"]
            key = (role, modality if role == "hub" else (memory["space"], modality))
            words = f"{memory['items']:,} {modality}"
            told.setdefault(key, f"{words} (pairs)" if role == "pairs" else words)
        return " + ".join(told.values())


def is_run(folder: Path) -> bool:
    """Whether `folder` holds a bridge, or a run on its way to one."""
    return any((folder / name).exists() for name in (ABOUT_FILE, RUN_FILE))


def find_runs(folder: Path) -> tuple[list[RunSummary], list[str]]:
    """The runs in `folder`, newest first, and a sentence for each that cannot be read.

    Raises UserError if there are none.
    """
    if not folder.is_dir():
        remedy = "make one with `mcr train`, or name the folder of your bridges"
        raise UserError(f"there is no folder {folder} with runs: {remedy}")
    found, problems = [], []
    for one in sorted(folder.iterdir()):
        if one.is_dir() and is_run(one):
            try:
                found.append(read_summary(one))
            except UserError as error:
                problems.append(str(error))
    if not found and not problems:
        raise UserError(
            f"{folder} has no runs: make one with `mcr train`, or name the folder of your bridges"
        )
    return sorted(found, key=lambda run: run.started, reverse=True), problems


def run_named(name: Path) -> Path:
    """The folder of a run, given as such or by its name in `runs`. Raises UserError if none is."""
    for folder in (name, RUNS_FOLDER / name):
        if is_run(folder):
            return folder
    raise UserError(
        f"{name} is not a run, neither as a folder nor in {RUNS_FOLDER}: `mcr runs` lists those "
        "that there are"
    )


def read_summary(folder: Path) -> RunSummary:
    """What the files of a run say. Raises UserError if they are damaged."""
    record = read_run(folder)
    about = _json(folder / ABOUT_FILE) if (folder / ABOUT_FILE).exists() else None
    if record is not None and record.finished is None:
        about = None  # of the bridge that this run will replace
    try:
        return _summary(folder, record, about)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        file = folder / (RUN_FILE if about is None else ABOUT_FILE)
        raise UserError(f"{file} is damaged ({error!r}): copy the run again") from error


def _summary(folder: Path, record: RunRecord | None, about: Mapping[str, Any] | None) -> RunSummary:
    lines = [line for log in _logs(folder) for line in log]
    if about is None:
        settings = asdict(load_settings(folder / SETTINGS_FILE))
        scores = lines[-1] if lines else {}
        evaluations: list[Evaluation] = []
        stale: list[str] = []
    else:
        settings, scores = about["settings"], about["metrics"]
        evaluations, stale = _evaluations(folder, about["fingerprint"])
        if not lines and "epoch" in scores:  # the log was left behind
            lines = [scores] * int(scores["epoch"])
    method = settings.get("method", "projectors")
    kind = settings.get("objective", "cmcr") if method == "projectors" else method
    return RunSummary(
        name=folder.resolve().name,
        folder=str(folder),
        finished=about is not None,
        when=record.starts[0].when if record and record.starts else _written(folder),
        kind="imported" if about and about.get("origin") else kind,
        settings=settings,
        memories=about["memories"] if about else (),
        epochs=len(lines),
        scores={name: scores[key] for name, key in HELD_OUT.items() if key in scores},
        evaluations=evaluations,
        stale=stale,
        versions=about["versions"] if about else {},
        starts=[asdict(start) for start in record.starts] if record else (),
    )


def _logs(folder: Path) -> list[list[dict[str, Any]]]:
    """The lines of metrics.jsonl, or of those of a mixture's parts under way."""
    files = [folder / METRICS_FILE, *sorted((folder / PARTS_FOLDER).glob(f"*/{METRICS_FILE}"))]
    return [read_log(file) for file in files if file.exists()]


def _evaluations(folder: Path, fingerprint: str) -> tuple[list[Evaluation], list[str]]:
    found, stale = [], []
    for path in sorted((folder / RESULTS_FOLDER).glob("*.json")):
        told = _json(path)
        if told.get("format") != EVALUATION:
            continue  # such as what lies beside a memory
        if (told["bridge"] or {}).get("fingerprint", fingerprint) != fingerprint:
            stale.append(path.name)
            continue
        memories, files = told["memories"], told["files"]
        prints = [sorted((k, v.get("fingerprint")) for k, v in one.items())
                  for one in (memories, files)]  # fmt: skip
        measures = json.dumps([told["protocol"], told["settings"], prints], sort_keys=True)
        stems = tuple(dict.fromkeys(Path(one["path"]).stem for one in memories.values()))
        found.append(Evaluation(path.name, told["protocol"], stems, measures, told["figures"]))
    return found, stale


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_sealed(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): copy the run again") from error


def _written(folder: Path) -> str:
    seconds = (folder / ABOUT_FILE).stat().st_mtime
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")
