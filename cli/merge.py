"""`mcr merge`: shards of an extraction, or other memories, into one memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Overwrite
from cli.output import end_with_failures, print_memory


def merge(
    memories: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Shards in any order, or memories, of which NAME.h5 may be there as shards only. "
            "Unset: the shards beside --out."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The memory to write, NAME.h5.")] = ...,  # type: ignore[assignment]
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Join shards of an extraction into one memory.

    Shards of `mcr extract --shard` become the memory that one run would have made; a shard that
    is missing or there twice is refused. Other memories of one space and modality are joined in
    the order given.
    """
    from cli.progress import BarProgress
    from features.errors import UserError
    from features.extraction.shards import shards_beside
    from features.files import require_h5
    from features.memories.merging import merge as run_merge
    from features.memories.sharded import open_memory

    paths = memories or shards_beside(require_h5(out))
    if not paths:
        raise UserError(
            f"there are no shards {out.stem}.I-of-N.h5 beside {out}: make them with "
            f"`mcr extract .. -o {out} --shard I/N`, or name the memories to merge"
        )
    made, failures = run_merge(
        [open_memory(path) for path in paths], out, overwrite=overwrite, progress=BarProgress()
    )
    print_memory(made, json=json, failures=len(failures))
    end_with_failures(failures, made.path.with_suffix(".failures.jsonl"), "items failed")
