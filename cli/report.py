"""`mcr report`: one HTML page about a bridge, and its results in the model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Device, Json, TrustEncoder
from cli.output import print_json


def report(
    run: Annotated[Path, typer.Argument(help="A folder of `mcr train`.")],
    result: Annotated[
        list[Path] | None,
        typer.Option(
            "--result", help="A result of `mcr eval`, besides those in the folder; any number."
        ),
    ] = None,
    query: Annotated[
        Path | None,
        typer.Option("--query", "-q", help="Memory of queries: for pictures, best and worst."),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", "-g", help="Memory that they search.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=100, help="Best queries, and worst ones.")] = 10,
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=20, help="Hits of each.")] = 5,
    items: Annotated[
        int, typer.Option(min=1, help="Items of each memory in pictures, and queries ranked.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.html", help="Unset: RUN/report.html."),
    ] = None,
    card: Annotated[
        bool, typer.Option("--card/--no-card", help="Write the results into the model card.")
    ] = True,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="For the model card: an identifier such as apache-2.0."),
    ] = None,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write a page about a bridge, and its model card.

    One HTML file that needs nothing else: what was trained on what, settings, curves, evaluations,
    pictures, the best and worst queries, and where everything came from.
    """
    from bridge.card import check_licence
    from bridge.report.contents import gather
    from bridge.report.page import check_report, write_report
    from cli.progress import BarProgress
    from features.errors import UserError
    from features.extras import require_package
    from features.memories.sharded import open_memory

    require_package("matplotlib", "a report")
    page = out or run / "report.html"
    if out is not None:
        check_report(out)
    if licence is not None and not card:
        raise UserError("--license is for the model card: leave --no-card out")
    if licence is not None:
        check_licence(licence)
    contents = gather(
        run, results=result or (), query=None if query is None else open_memory(query),
        gallery=None if gallery is None else open_memory(gallery), rows=rows, k=k, items=items,
        seed=seed, trust_encoder=trust_encoder, device=device, progress=BarProgress(),
    )  # fmt: skip
    written = [write_report(contents, page, progress=BarProgress())]
    if card:
        from bridge.report.card import update_card

        written.append(update_card(contents, licence=licence))
    if json:
        told = {one.source: one.result.about(samples=False)["figures"] for one in contents.results}
        print_json({"written": [str(path) for path in written], "results": told})
        return
    for path in written:
        typer.echo(path)
