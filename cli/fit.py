"""`mcr fit`: a small encoder of one's own, from pairs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Device, Json, Overwrite, pairs
from cli.output import print_json


def fit(
    table: Annotated[Path, typer.Argument(help="Pairs: .csv, .tsv, .jsonl or .parquet.")],
    modalities: Annotated[
        list[str],
        typer.Option(
            "--modality",
            "-m",
            metavar="MODALITY=COLUMN",
            help="Which column holds what, such as image=path text=caption; two or more.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The encoder, NAME.safetensors.")],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Keep only the rows with VALUE."),
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            help="Rows with the same value are no negatives of one another. "
            "Unset: the text column, if there is one."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the space. Unset: the output's name.")
    ] = None,
    dimension: Annotated[int, typer.Option(min=2, help="Of the embeddings.")] = 128,
    image_height: Annotated[int, typer.Option(min=8, help="Pixels; a multiple of 8.")] = 32,
    image_width: Annotated[int, typer.Option(min=8, help="Pixels; a multiple of 8.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of sound; longer is cut.")] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="Batches to fit on.")] = 1500,
    batch: Annotated[int, typer.Option(min=2, help="Pairs a batch.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="AdamW's, after the warm-up.")] = 3e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batches.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fit a small encoder on pairs of your own.

    Use it as `--encoder mini:NAME.safetensors`.
    Good for trying things on a laptop, and for small data sets of one's own.
    """
    from cli.progress import BarProgress
    from features.encoders.mini.config import MiniConfig
    from features.encoders.mini.fit import FitSettings, fit_mini, read_pairs
    from features.errors import UserError
    from features.files import refuse_existing
    from features.space import modality_named
    from features.tables import read_table

    refuse_existing(out, overwrite=overwrite)
    if image_height % 8 or image_width % 8:
        raise UserError(
            f"images of {image_height} x {image_width} cannot be cut into 8 x 8 patches: give "
            "multiples of 8"
        )
    columns = {modality_named(m): c for m, c in pairs("--modality", modalities).items()}
    rows = read_table(table, pairs("--where", where))
    config = MiniConfig(
        name or out.stem,
        tuple(columns),
        dimension=dimension,
        image_height=image_height,
        image_width=image_width,
        seconds=seconds,
    )
    items = {
        modality: [
            value if modality == "text" else table.parent / value for value in rows.column(column)
        ]
        for modality, column in columns.items()
    }
    group = group_column or columns.get("text")
    groups = rows.column(group) if group else [str(i) for i in range(len(rows))]
    progress = BarProgress()
    loss = fit_mini(
        config,
        read_pairs(config, items, progress=progress),
        groups,
        out,
        settings=FitSettings(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed),
        device=device,
        progress=progress,
    )
    if json:
        print_json({"encoder": str(out), **asdict(config), "pairs": len(rows), "loss": loss})
        return
    typer.echo(f"{out}: {config.name}, {', '.join(columns)}, {dimension}-d, loss {loss:.4f}")
