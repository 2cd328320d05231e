"""`mcr compare`: several bridges, or results of `mcr eval`, side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Device, Json, TrustEncoder
from cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.evaluation.compared import ComparedResults
    from bridge.evaluation.comparison import Comparison
    from bridge.evaluation.differences import Difference


def compare(
    bridges: Annotated[
        list[Path],
        typer.Argument(
            metavar="BRIDGE_OR_RESULT",
            help="Bridges from `mcr train`, or results (.json) of `mcr eval`, first the one that "
            "the others are compared with.",
        ),
    ],
    query: Annotated[
        Path | None, typer.Option("--query", "-q", help="Memory of queries, with bridges.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", "-g", help="Memory that is searched, with bridges.")
    ] = None,
    resamples: Annotated[
        int, typer.Option(help="How often queries are drawn anew for intervals and p.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of these draws.")] = 0,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Lay several bridges, or results of evaluations, side by side.

    Measures retrieval through bridges, and prints R@1 and mAP of every one: the mean of both
    directions, and each. Then, for every bridge after the first, how its means differ from the
    first's, with the 95 % interval and the two-sided p of a paired bootstrap: all bridges answer
    the same drawn queries. Where 20 classes or more are shared, whole classes are drawn, as queries
    of one class are alike. --json has all that `mcr eval` measures, and the differences of each
    direction as well.

    Of results, prints all figures, and the same test of every figure, sample by sample.
    """
    results = [path for path in bridges if path.suffix == ".json"]
    if results:
        _compare_results(bridges, results, (query, gallery), resamples, seed, json=json)
        return
    if query is None or gallery is None:
        missing = "--query" if query is None else "--gallery"
        raise typer.BadParameter("bridges are compared on memories: give it", param_hint=missing)
    from bridge.artefact import load
    from bridge.evaluation.comparison import compare_retrieval
    from cli.progress import BarProgress
    from features.memories.sharded import open_memory

    result = compare_retrieval(
        [load(bridge, device=device) for bridge in bridges],
        open_memory(query),
        open_memory(gallery),
        resamples=resamples,
        seed=seed,
        trust_encoder=trust_encoder,
        progress=BarProgress(),
    )
    if json:
        told = asdict(result)
        named = zip(bridges, told["bridges"], strict=True)
        print_json({**told, "bridges": [{"bridge": str(path), **one} for path, one in named]})
        return
    _print(result, [str(bridge) for bridge in bridges])


def _print(result: Comparison, names: Sequence[str]) -> None:
    ends = (result.query, result.gallery)
    if ends[0] == ends[1]:
        ends = ("query", "gallery")
    there, back = " -> ".join(ends), " -> ".join(reversed(ends))
    print_table(
        ["", "R@1", "mAP", f"{there}: R@1", "mAP", f"{back}: R@1", "mAP"],
        [
            [
                name,
                *(
                    f"{figure:.3f}"
                    for figures in (one.mean, one.forward, one.backward)
                    for figure in (figures.recall[1], figures.mean_average_precision)
                ),
            ]
            for name, one in zip(names, result.bridges, strict=True)
        ],
    )
    for name, one in zip(names[1:], result.bridges[1:], strict=True):
        assert one.difference is not None
        mean = one.difference.mean
        typer.echo(
            f"{name} - {names[0]}: R@1 {_told(mean.recall[1])}; "
            f"mAP {_told(mean.mean_average_precision)}"
        )
    typer.echo(
        f"right by {result.relevance}; R@1 of chance {result.chance:.4f}; "
        f"{result.resamples:,} resamples of {_units(result)}"
    )
    first = result.bridges[0]
    excluded = first.forward.excluded + first.backward.excluded
    if excluded:
        note(f"{excluded} queries have no right item in the other memory and are left out")


def _told(difference: Difference) -> str:
    return (
        f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}], "
        f"p {difference.p_value:.2g}"
    )


def _units(result: Comparison) -> str:
    forward, backward = result.units
    if result.resampled == "queries":
        return f"{forward:,} and {backward:,} queries"
    return f"{forward:,} {result.resampled}"


def _compare_results(
    given: Sequence[Path],
    results: Sequence[Path],
    memories: tuple[Path | None, Path | None],
    resamples: int,
    seed: int,
    *,
    json: bool,
) -> None:
    from bridge.evaluation.compared import compare_results
    from bridge.evaluation.results import read_result
    from cli.progress import BarProgress
    from features.errors import UserError

    if len(results) < len(given):
        raise UserError(
            f"{results[0]} is a result and {next(p for p in given if p not in results)} is not: "
            "compare bridges, or results of `mcr eval` (.json), not both"
        )
    if any(memories):
        raise UserError(
            "results were measured on memories already: leave --query and --gallery out"
        )
    found = compare_results(
        [read_result(path) for path in results],
        [str(path) for path in results],
        resamples=resamples,
        seed=seed,
        progress=BarProgress(),
    )
    if json:
        print_json(asdict(found))
        return
    _print_results(found)


def _print_results(found: ComparedResults) -> None:
    rows = [(part, name) for part, figures in found.figures[0].items() for name in figures]
    print_table(
        ["", found.protocol, *found.names],
        [
            [part, name, *(_cell(one.get(part, {}).get(name)) for one in found.figures)]
            for part, name in rows
        ],
    )
    for other, differences in zip(found.names[1:], found.differences, strict=True):
        for part, figures in differences.items():
            for name, difference in figures.items():
                typer.echo(f"{other} - {found.names[0]}: {part}: {name} {_told(difference)}")
    for name, values in found.differing.items():
        note(f"measured with other {name}: {'; '.join(str(value)[:80] for value in values)}")
    if found.resamples:
        typer.echo(f"{found.resamples:,} resamples of the same samples")


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
