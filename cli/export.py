"""`mcr export`: a memory into the file of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Overwrite
from cli.output import note, print_json


def export_memory(
    memory: Annotated[Path, typer.Argument(help="A memory.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="A .npy, .npz, .parquet, .safetensors, .hdf5, .fbin, .f16bin or .ibin file, or a "
            "folder.",
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="npy, npz, parquet, atlas, safetensors, clip-retrieval, ann-benchmarks, fbin, "
            "f16bin or ibin. Unset: by the suffix."
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float16 or float32. Unset: the memory's or the format's.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="Of ann-benchmarks and ibin: a memory of queries."),
    ] = None,
    neighbors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Exact nearest items written for every query [default: 100], or with atlas for "
            "every item [default: none].",
        ),
    ] = None,
    shard_rows: Annotated[
        int, typer.Option(min=1, help="Of clip-retrieval: items in a shard.")
    ] = 1_000_000,
    projection: Annotated[
        str | None,
        typer.Option(help="Of atlas: the plane that items are shown in, pca [default] or umap."),
    ] = None,
    thumbnails: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of atlas: longer side of its pictures, in pixels [default: 96]; 0: none."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a memory as a file of another tool.

    --format atlas is Parquet for Apple's embedding-atlas: the vectors and columns, their plane, and
    small pictures of images.

    .npy, .fbin and .f16bin have no place for ids, which go into NAME.ids.txt, one a line.
    """
    from cli.progress import BarProgress
    from features.exchange.exporting import LOCAL, format_of
    from features.exchange.exporting import export_memory as run_export
    from features.memories.sharded import open_memory

    read = open_memory(memory)
    asked = None if queries is None else open_memory(queries)
    lost = run_export(
        read, out, format=format, dtype=dtype, queries=asked,
        neighbors=neighbors, shard_rows=shard_rows, projection=projection,
        thumbnails=thumbnails, overwrite=overwrite, progress=BarProgress(),
    )  # fmt: skip
    name = format_of(out, format)
    for what in lost:
        remedy = (
            "they stay in the memory" if what == LOCAL else "export a .parquet file to keep them"
        )
        note(f"{out} has no place for the {what}: {remedy}")
    if json:
        print_json({"file": str(out), "format": name, "items": len(read), "lost": lost})
        return
    typer.echo(f"{out}: {len(read)} {read.modality} embeddings of {read.space} as {name}")
    if name == "atlas":
        from features.exchange.atlas import atlas_command

        typer.echo(f"look at it with: {atlas_command(out)}")
