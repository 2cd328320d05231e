"""`mcr eval retrieval`: retrieval between two memories, paired or class-aware."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.evaluations.answer import told
from cli.evaluations.inputs import Evaluation, read_labels
from cli.evaluations.options import Labels, Measuring
from cli.options import with_groups
from cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from bridge.evaluation.results import Result

CUTOFFS = (1, 5, 10)
MANY = 20_000  # items, whose intervals take seconds


@with_groups
def retrieval(
    query: Annotated[str, typer.Option("--query", "-q", help="Memory of queries, or their files.")],
    gallery: Annotated[
        str, typer.Option("--gallery", "-g", help="Memory that is searched, or its files.")
    ],
    *,
    relevance: Annotated[
        str,
        typer.Option(
            help="labels: items of a class are right for each other; ids: those of one id or "
            "sample; auto: labels, where both sides have them."
        ),
    ] = "auto",
    labels: Labels,
    measuring: Measuring,
) -> None:
    """Search one memory with another, in both directions.

    Items with the same label are right for each other where both memories have labels (see
    `mcr extract --label-column`), otherwise items with the same id; or as a data set's annotations
    say. Prints R@1, R@5, R@10, median rank and mAP with bootstrap intervals.
    """
    from bridge.evaluation.retrieval_result import directions, retrieval_result
    from features.progress import SILENT

    evaluation = Evaluation(measuring, query)
    left, right = (evaluation.memory(one) for one in (query, gallery))
    how = evaluation.how
    if len(left) + len(right) <= MANY:
        how["progress"] = SILENT
    result = retrieval_result(
        left, right, annotations=read_labels(labels), relevance=relevance, **how
    )
    path, ends = evaluation.write(result), directions(left, right)
    if measuring.json:
        print_json(_as_json(result, path, measuring.bridge, ends))
        return
    _print(result, path, ends)


def _print(result: Result, path: Path, ends: tuple[str, str]) -> None:
    names = [*(f"R@{k}" for k in CUTOFFS), "median rank", "mAP"]
    print_table(
        ["", *names, "queries"],
        [
            [
                part,
                *(_figure(name, result.figures[part][name]) for name in names),
                f"{result.counts[f'{part}: queries']:,}",
            ]
            for part in ends
        ],
    )
    typer.echo(
        f"right by {result.settings['relevance']}; R@1 of chance "
        f"{result.settings['chance R@1']:.4f}"
    )
    for part in ends if result.intervals else ():
        intervals = result.intervals[part]
        ranges = "; ".join(
            f"{name} {_figure(name, low)} to {_figure(name, high)}"
            for name, (low, high) in intervals.items()
        )
        typer.echo(f"95 % of {result.resamples:,} resamples, {part}: {ranges}")
    excluded = sum(result.counts[f"{part}: queries without a right item"] for part in ends)
    if excluded:
        note(f"{excluded} queries have no right item in the other memory and are left out")
    for name in ("samples that a memory lacks", "samples without a class"):
        if result.counts.get(name):
            note(f"{name}, left out: {result.counts[name]}")
    typer.echo(f"written to {path}")


def _figure(name: str, value: float) -> str:
    return f"{value:.0f}" if name == "median rank" else f"{value:.3f}"


def _as_json(
    result: Result, path: Path, bridge: Path | None, ends: tuple[str, str]
) -> dict[str, Any]:
    """The result, and its figures under the names that they have had before results."""
    sides = {
        side: {
            "recall": {str(k): result.figures[part][f"R@{k}"] for k in CUTOFFS},
            "median_rank": result.figures[part]["median rank"],
            "mean_average_precision": result.figures[part]["mAP"],
            "queries": result.counts[f"{part}: queries"],
            "excluded": result.counts[f"{part}: queries without a right item"],
        }
        for side, part in zip(("forward", "backward"), ends, strict=True)
    }
    return {
        **told(result, path),
        "bridge": None if bridge is None else str(bridge),
        "bridge_fingerprint": (result.bridge or {}).get("fingerprint"),
        "query": result.memories["query"]["modality"],
        "gallery": result.memories["gallery"]["modality"],
        "relevance": result.settings["relevance"],
        "chance": result.settings["chance R@1"],
        **sides,
    }
