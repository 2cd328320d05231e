"""`mcr index`: an index over a memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import choices
from cli.options import DryRun, Json, Overwrite
from cli.output import print_json


def index(
    memory: Annotated[Path, typer.Argument(help="A memory, usually from `mcr project`.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            autocompletion=choices.file_or_address,
            help="NAME.faiss, milvus:NAME.db#COLLECTION or milvus+http://HOST:PORT#COLLECTION. "
            "Unset: NAME.faiss beside the memory.",
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="flat (exact), hnsw, ivf, or a FAISS factory string; in Milvus one of its types.",
            autocompletion=choices.index_kind,
        ),
    ] = "flat",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Build an index of a memory, with FAISS or in Milvus.

    Its recall against exact search is measured and kept with it.
    """
    from cli.progress import BarProgress
    from features.memories.sharded import open_memory
    from features.search.backends import build_index

    place = out or str(memory.with_suffix(".faiss"))
    if dry_run:
        from cli.dry_run import show_index

        show_index(open_memory(memory), place, kind, json=json)
        return
    made = build_index(
        open_memory(memory),
        place,
        kind=kind,
        overwrite=overwrite,
        progress=BarProgress(),
    )
    if json:
        print_json({"index": str(made.path), **made.about})
        return
    about = made.about
    typer.echo(
        f"{made.path}: {len(made)} vectors, {about['factory']}, "
        f"recall@10 {about['recall@10']:.4f} against exact search"
    )
