"""`mcr tune`: settings by cross-validation on the hub items."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import (
    Align,
    Cache,
    Device,
    Hub,
    Json,
    Leaf,
    Overwrite,
    TrustEncoder,
    with_settings,
)
from cli.output import print_json, print_table


@with_settings
def tune(
    out: Annotated[Path, typer.Option("--out", "-o", help="Settings file to write, TOML.")],
    hub: Hub,
    leaf: Leaf = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Settings that all trials share; options override it."),
    ] = None,
    align: Align = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    cache: Cache = True,
    json: Json = False,
    **settings: Any,
) -> None:
    """Find settings on the hub items alone, without paired data.

    Noise, temperature and shape of the projectors. Every trial is fitted without some of the hub
    items and judged by how well these are found in the other space; a mixture with the best of
    them is tried last. Use the answer with `mcr train --config`. Can be stopped at any moment:
    the same command continues.
    """
    from bridge.config import load_settings
    from bridge.tuning import tune as run_tune
    from cli.progress import BarProgress
    from features.memories.sharded import open_memories

    found = run_tune(
        open_memories(hub),
        open_memories(leaf or ()),
        out,
        load_settings(config, settings),
        align=align,
        trust_encoder=trust_encoder,
        device=device,
        overwrite=overwrite,
        cache=cache,
        progress=BarProgress(),
    )
    if json:
        print_json({"out": str(out), "trials": [asdict(trial) for trial in found.trials]})
        return
    print_table(
        ["cross-entropy", "trial"],
        [[f"{trial.cross_entropy:.4f}", trial.name] for trial in found.trials[:10]],
    )
    typer.echo(f"{out}: {found.best.name}, the best of {len(found.trials)}")
