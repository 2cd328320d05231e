"""Runs side by side: the settings and circumstances that differ, and all figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.runs.listing import RunSummary

Rows = dict[str, list[Any]]  # a value of every run, None where it has none


@dataclass(frozen=True)
class RunComparison:
    """Rows by name. Of settings and circumstances only those that differ."""

    names: list[str]
    settings: Rows
    circumstances: Rows
    figures: Rows


def compare_runs(runs: Sequence[RunSummary]) -> RunComparison:
    """Lay runs side by side. An evaluation is one row of all runs that it measures the same of."""
    return RunComparison(
        names=[run.name for run in runs],
        settings=_differing(_rows([{"kind": run.kind, **run.settings} for run in runs])),
        circumstances=_differing(_rows([_circumstances(run) for run in runs])),
        figures=_rows([dict(run.scores) for run in runs]) | _measured(runs),
    )


def _circumstances(run: RunSummary) -> dict[str, Any]:
    last: Mapping[str, Any] = run.starts[-1] if run.starts else {}
    git = last.get("git")
    seen: dict[str, int] = {}
    memories = {}
    for memory in run.memories:
        name = f"{memory['role']} {memory['modality']} of {memory['space']}"
        seen[name] = seen.get(name, 0) + 1
        label = name if seen[name] == 1 else f"{name}, {seen[name]}"
        memories[label] = f"{memory['items']:,} ({memory['fingerprint'][:8]})"
    return {
        **memories,
        "epochs trained": run.epochs,
        "device": last.get("device"),
        "git": git and f"{(git['commit'] or 'no commit')[:10]}{' + changes' * git['dirty']}",
        **{f"version of {name}": value for name, value in run.versions.items()},
    }


def _measured(runs: Sequence[RunSummary]) -> Rows:
    """Figures of evaluations, one row for each part and name of what measures the same."""
    titles: dict[str, str] = {}
    for run in runs:
        for one in run.evaluations:
            title, number = f"{one.protocol} of {' / '.join(one.memories)}", 1
            while one.measures not in titles:
                told = title if number == 1 else f"{title} ({number})"  # with other settings
                if told not in titles.values():
                    titles[one.measures] = told
                number += 1
    return _rows(
        [
            {
                f"{titles[one.measures]}: {part}: {name}": value
                for one in run.evaluations
                for part, figures in one.figures.items()
                for name, value in figures.items()
            }
            for run in runs
        ]
    )


def _rows(columns: Sequence[Mapping[str, Any]]) -> Rows:
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: [column.get(name) for column in columns] for name in names}


def _differing(rows: Rows) -> Rows:
    return {name: row for name, row in rows.items() if any(one != row[0] for one in row)}
