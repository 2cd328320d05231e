"""`mcr crops`: pictures cut into windows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Overwrite
from cli.output import note, print_json


def crops(
    source: Annotated[
        str, typer.Argument(help="Pictures: a folder, a glob, a .txt file or a table.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the crops and regions.csv.")],
    grid: Annotated[
        str, typer.Option(metavar="ROWSxCOLUMNS", help="How many windows, down and across.")
    ] = "5x5",
    overlap: Annotated[
        float, typer.Option(help="How much of a window its neighbours have too, 0 to below 1.")
    ] = 0.5,
    column: Annotated[
        str | None, typer.Option(help="Of a table: the column with the pictures.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Of a table: the column with ids.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Cut pictures into windows.

    To localise with an encoder that has no local embeddings: embed the table regions.csv with
    `mcr extract --modality image`, and give both to `mcr eval localisation` as --crops and
    --regions.
    """
    from cli.evaluations.inputs import parse_grid
    from cli.output import end_with_failures
    from cli.progress import BarProgress
    from features.extraction.crops import TABLE, cut_pictures
    from features.extraction.partial import write_failures
    from features.extraction.sources import read_source

    rows, columns = parse_grid(grid)
    pictures = read_source(source, "image", column=column, id_column=id_column)
    for sentence in pictures.notes:
        note(sentence)
    failures = cut_pictures(
        pictures,
        out,
        grid=(rows, columns),
        overlap=overlap,
        overwrite=overwrite,
        progress=BarProgress(),
    )
    listed = out / "regions.failures.jsonl"
    write_failures(listed, failures)
    made = len(pictures.items) - len(failures)
    if json:
        print_json({"table": str(out / TABLE), "pictures": made, "crops": made * rows * columns})
    else:
        typer.echo(f"{out / TABLE}: {made * rows * columns} crops of {made} pictures")
    end_with_failures(failures, listed, "pictures cannot be read")
