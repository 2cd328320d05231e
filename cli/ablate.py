"""`mcr ablate`: what each part of C-MCR is worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import (
    Align,
    Cache,
    Device,
    GalleryMemory,
    Hub,
    Json,
    Leaf,
    QueryMemory,
    TrustEncoder,
    with_settings,
)
from cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from bridge.ablation import Ablation, Measured


@with_settings
def ablate(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of all bridges, and of ablation.json.")
    ],
    hub: Hub,
    query: QueryMemory,
    gallery: GalleryMemory,
    leaf: Leaf = None,
    seeds: Annotated[
        int, typer.Option(help="How often each variant is trained, with seeds from --seed on.")
    ] = 5,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Settings of the full recipe as TOML; options override it."
        ),
    ] = None,
    align: Align = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    cache: Cache = True,
    json: Json = False,
    **settings: Any,
) -> None:
    """Measure what each part of C-MCR is worth.

    Trains the published recipe whole, and without noise, pseudo pairs and each of its losses, all
    with the same seeds, and measures retrieval as `mcr eval` does. Prints the mean of both
    directions' R@1 and mAP over the seeds, with its standard deviation, and the difference to the
    full recipe, with its standard error from the differences seed by seed. The folder's
    ablation.json has every run.

    Can be stopped at any moment: the same command continues. With more --seeds, finished bridges
    are kept.
    """
    from bridge.ablation import ablate as run_ablation
    from bridge.config import load_settings
    from cli.progress import BarProgress
    from features.memories.sharded import open_memories, open_memory

    result = run_ablation(
        open_memories(hub),
        open_memories(leaf or ()),
        open_memory(query),
        open_memory(gallery),
        out,
        load_settings(config, settings, preset="published"),
        seeds=seeds,
        align=align,
        trust_encoder=trust_encoder,
        device=device,
        cache=cache,
        progress=BarProgress(),
    )
    if json:
        print_json(asdict(result))
        return
    _print(result)


def _print(result: Ablation) -> None:
    print_table(
        ["", "R@1", "mAP", "R@1 - full", "mAP - full"],
        [
            [variant.name, *map(_spread, figures), *map(_difference, figures)]
            for variant in result.variants
            for figures in [(variant.recall[1], variant.mean_average_precision)]
        ],
    )
    for name, reason in result.left_out.items():
        typer.echo(f"{name} is left out: {reason}")
    typer.echo(
        f"means of {result.query} -> {result.gallery} and back over {len(result.seeds)} seeds "
        f"({result.seeds[0]} to {result.seeds[-1]}) ± standard deviation; differences ± standard "
        "error, paired by seed"
    )
    typer.echo(f"right by {result.relevance}; R@1 of chance {result.chance:.4f}")
    first = result.variants[0].runs[0]
    excluded = first.forward.excluded + first.backward.excluded
    if excluded:
        note(f"{excluded} queries have no right item in the other memory and are left out")


def _spread(figure: Measured) -> str:
    return f"{figure.mean:.3f} ± {figure.deviation:.3f}"


def _difference(figure: Measured) -> str:
    if figure.difference is None:
        return ""
    return f"{figure.difference:+.3f} ± {figure.standard_error:.3f}"
