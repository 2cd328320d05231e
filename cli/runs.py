"""`mcr runs`: what was trained, listed and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json
from cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from bridge.runs.comparing import Rows, RunComparison
    from bridge.runs.listing import RunSummary

SORTS = ("when", "name", "method", "epochs", "held-out")


def runs(
    given: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER_OR_RUNS",
            help="A folder of runs to list [default: runs], or two runs or more to compare, as "
            "folders or by their names in runs/.",
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare all runs, of a folder as well.")
    ] = False,
    sort: Annotated[
        str,
        typer.Option(
            help=f"List by {', '.join(SORTS)}, or a protocol such as retrieval; best and newest "
            "first."
        ),
    ] = "when",
    json: Json = False,
) -> None:
    """List runs of `mcr train`, or lay several side by side.

    The list has how well held-out hub items find themselves, and the first figure of every
    evaluation in results/. A comparison has the settings and circumstances that differ, and all
    figures.
    """
    from bridge.runs.comparing import compare_runs
    from bridge.runs.layout import RUNS_FOLDER
    from bridge.runs.listing import find_runs, is_run, read_summary, run_named
    from features.errors import UserError

    folders = given or [RUNS_FOLDER]
    if len(folders) == 1 and not is_run(folders[0]) and not is_run(RUNS_FOLDER / folders[0]):
        found, problems = find_runs(folders[0])
        for problem in problems:
            note(f"left out: {problem}")
    else:
        found = [read_summary(run_named(folder)) for folder in folders]
    for run in found:
        for file in run.stale:
            note(f"{run.folder}/results/{file} is left out: it measured another bridge")
    if compare or len(folders) > 1:
        if len(found) < 2:
            raise UserError(f"{found[0].folder} alone cannot be compared: name two runs or more")
        compared = compare_runs(found)
        if json:
            print_json(asdict(compared))
        else:
            _print_comparison(compared)
        return
    found = _sorted(found, sort)
    if json:
        print_json([{**asdict(run), "data": run.data} for run in found])
    else:
        _print_list(found)


def _sorted(found: Sequence[RunSummary], by: str) -> list[RunSummary]:
    from features.errors import UnknownNameError

    protocols = {one.protocol for run in found for one in run.evaluations}
    if by not in (*SORTS, *protocols):
        known = ", ".join((*SORTS, *sorted(protocols)))
        raise UnknownNameError(f"runs cannot be sorted by '{by}': choose {known}")

    def key(run: RunSummary) -> Any:
        best = [one.headline[1] for one in run.evaluations if one.protocol == by]
        return {
            "when": run.started,
            "name": run.name,
            "method": run.kind,
            "epochs": run.epochs,
            "held-out": next(iter(run.scores.values()), -1.0),
        }.get(by, max(best, default=-1.0))

    return sorted(found, key=key, reverse=by not in ("name", "method"))


def _print_list(found: Sequence[RunSummary]) -> None:
    scores = list(dict.fromkeys(name for run in found for name in run.scores))
    print_table(
        ["run", "when", "method", "data", "epochs", *scores, "evaluations"],
        [
            [
                run.name if run.finished else f"{run.name} (unfinished)",
                run.when[:16].replace("T", " "),
                run.kind,
                run.data or "-",
                str(run.epochs) if run.epochs else "-",
                *(_cell(run.scores.get(name)) for name in scores),
                "; ".join("{} {:.3f}".format(*one.headline) for one in run.evaluations) or "-",
            ]
            for run in found
        ],
    )


def _print_comparison(compared: RunComparison) -> None:
    sections: tuple[tuple[str, Rows], ...] = (
        ("settings that differ", compared.settings),
        ("circumstances that differ", compared.circumstances),
        ("figures", compared.figures),
    )
    for title, rows in sections:
        if rows:
            print_table(
                [title, *compared.names],
                [
                    [name, *(_cell(one) if title == "figures" else _told(one) for one in row)]
                    for name, row in rows.items()
                ],
            )
        else:
            typer.echo(f"{title}: none")
        if title != "figures":
            typer.echo()


def _told(value: Any) -> str:
    return "-" if value is None else str(value)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
