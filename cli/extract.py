"""`mcr extract`: files or sentences into a memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import choices
from cli.options import (
    ENGINES,
    Device,
    DryRun,
    Engine,
    Json,
    Overwrite,
    RayAddress,
    Resume,
    pairs,
)
from cli.output import end_with_failures, note, print_memory


def extract(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, a glob, a .txt file with one item a line, or a table "
            "(.csv, .tsv, .jsonl, .parquet)."
        ),
    ],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            "-e",
            help="Such as clip:ViT-B-32,openai; see `mcr encoders`.",
            autocompletion=choices.encoder,
        ),
    ],
    modality: Annotated[
        str,
        typer.Option(
            "--modality",
            "-m",
            help="text, image, audio or points.",
            autocompletion=choices.modality,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The memory to write, NAME.h5.")],
    column: Annotated[
        str | None, typer.Option(help="Of a table: the column with the items.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Of a table: the column with the ids.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Of a table: the column with the items' classes.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Of a table: keep only the rows with VALUE."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Of a table: a further column to keep, to filter by; repeatable, or `none`. "
            "Unset: all.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Items embedded at a time.")] = 256,
    dtype: Annotated[
        str,
        typer.Option(help="float16 or float32, as stored.", autocompletion=choices.stored_dtype),
    ] = "float16",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Decoding processes. Unset: if they are worth it.")
    ] = None,
    item_timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="An item that takes longer to decode has failed; 0: no limit. [default: 300, in "
            "worker processes]",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="The encoder's: fp32, bf16 or fp16.", autocompletion=choices.encoder_precision
        ),
    ] = "fp32",
    device: Device = "auto",
    max_failures: Annotated[
        int | None, typer.Option(min=0, help="Stop when more items than this have failed.")
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="Also embed the parts of each item: patches, windows."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Embed the I-th of N parts of the source, into NAME.I-of-N.h5; `mcr merge` joins "
            "them.",
        ),
    ] = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    ray_actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --engine ray: how many load the encoder. Unset: one a GPU, or a machine.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Embed a source into a memory.

    Can be stopped at any moment: the same command continues where it stopped. Items that
    cannot be embedded are listed with their reasons in NAME.failures.jsonl, and the exit
    code is 3.
    """
    from cli.progress import BarProgress
    from features.encoders import ENCODERS, load_encoder
    from features.encoders.own import require_known
    from features.errors import UnknownNameError
    from features.extraction.extract import extract as run_extract
    from features.extraction.shards import Shard
    from features.extraction.sources import read_source
    from features.files import require_h5
    from features.space import modality_named
    from features.suggest import unknown

    kind = modality_named(modality)
    require_known(encoder, ENCODERS)
    if dtype not in ("float16", "float32"):
        raise UnknownNameError(f"a memory stores float16 or float32, not '{dtype}'")
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    _check_engine(engine, ray_address, ray_actors, workers, shard)
    part = None if shard is None else Shard.named(shard)
    items = read_source(
        source,
        kind,
        column=column,
        id_column=id_column,
        label_column=label_column,
        where=pairs("--where", where, form="COLUMN=VALUE"),
        keep=[] if keep == ["none"] else keep,
    )
    for sentence in items.notes:
        note(sentence)
    if dry_run:
        from cli.dry_run import show_extraction

        show_extraction(
            items, encoder, kind, require_h5(out), shard=part, batch_size=batch_size, dtype=dtype,
            precision=precision, device=device, local=local, json=json,
        )  # fmt: skip
        return
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "dtype": dtype,
        "workers": workers,
        "item_timeout": item_timeout,
        "max_failures": max_failures,
        "local": local,
        "shard": part,
        "overwrite": overwrite,
        "resume": resume,
        "progress": BarProgress(),
    }
    memory = require_h5(out)
    if engine == "ray":
        from features.extraction.on_ray.engine import ray_engine

        with ray_engine(
            encoder,
            device=device,
            precision=precision,
            actors=ray_actors,
            address=ray_address,
            item_timeout=item_timeout,
        ) as cluster:
            loaded = cluster.encoder(kind)
            done = run_extract(items, loaded, kind, memory, engine=cluster, **options)
    else:
        loaded = load_encoder(encoder, device=device, precision=precision)
        done = run_extract(items, loaded, kind, memory, **options)
    if done.resumed_from:
        asked = len(done.memory) + len(done.failures)
        note(f"{done.resumed_from} of {asked} items were done before")
    print_memory(done.memory, json=json, failures=len(done.failures))
    end_with_failures(done.failures, done.failures_path, "items failed")


def _check_engine(
    engine: str, address: str | None, actors: int | None, workers: int | None, shard: str | None
) -> None:
    """Refuse options that say nothing to this engine."""
    from features.errors import UserError

    if engine == "local":
        for option, value in (("--ray-address", address), ("--ray-actors", actors)):
            if value is not None:
                raise UserError(f"{option} is of --engine ray: add that, or leave {option} out")
        return
    if workers is not None:
        raise UserError(
            "--workers counts processes of this machine, and Ray decodes on all CPUs that it has: "
            "leave --workers out of --engine ray"
        )
    if shard is not None:
        raise UserError(
            "--shard divides the items among machines without Ray, which divides them itself: "
            "leave --shard or --engine ray out"
        )
