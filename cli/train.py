"""`mcr train`: a bridge between two spaces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import choices
from cli.options import (
    Align,
    Cache,
    Device,
    DryRun,
    Engine,
    Json,
    Leaf,
    Overwrite,
    RayAddress,
    Resume,
    ShardProcesses,
    TrustEncoder,
    with_settings,
)
from cli.output import print_json

if TYPE_CHECKING:
    from bridge.artefact import Bridge


@with_settings
def train(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the bridge. Unset: runs/TIME-SPACES-METHOD."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Instead of --out: what the folder in runs/ is called.")
    ] = None,
    hub: Annotated[
        list[Path] | None,
        typer.Option(help="A memory of the shared modality; give one of each space."),
    ] = None,
    leaf: Leaf = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(help="Instead of --hub: memories of true pairs, with the same ids."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings as TOML; options override it.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="What settings begin with: best, a mixture of methods weighed on left-out hub "
            "items, or published, C-MCR's recipe. Unset: best, or published where --config is.",
            autocompletion=choices.preset,
        ),
    ] = None,
    align: Align = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    cache: Cache = True,
    shard_processes: ShardProcesses = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            help="Show every epoch's figures in tensorboard, trackio or wandb; can be repeated."
        ),
    ] = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Train a bridge without paired data.

    The folder is a run: beside the bridge it has the settings, the command, the state of the
    repository that you are in, and the figures of every epoch; see `mcr runs`.

    Can be stopped at any moment: the same command continues, to the same weights as an
    undisturbed run.

    Under torchrun, several processes train one bridge together.
    """
    from bridge.config import load_settings
    from bridge.runs.layout import RUNS_FOLDER
    from bridge.runs.naming import named_folder
    from bridge.tracking.tracker import tracker_named
    from bridge.training.launch import joined
    from bridge.training.train import train as run_train
    from cli.progress import BarProgress
    from features.errors import UserError
    from features.memories.sharded import open_memories
    from features.tasks import open_tasks

    with joined(device) as ranks:
        if bool(hub) == bool(pairs):
            raise UserError("give either two --hub memories or two --pairs memories")
        if name is not None:
            if out is not None:
                raise UserError(f"--name {name} and --out {out} both say where: give one of them")
            out = named_folder(name)
        chosen = load_settings(config, settings, preset=preset)
        if dry_run:
            from cli.dry_run import show_training

            if not ranks.first:
                return
            show_training(
                hub or pairs or (), leaf or (), out or RUNS_FOLDER, chosen, device=device, json=json
            )
            return
        with open_tasks(
            engine, processes=shard_processes, address=ray_address, used=ranks.first
        ) as tasks:
            made = run_train(
                open_memories(hub or pairs or ()),
                open_memories(leaf or ()),
                out,
                chosen,
                paired=bool(pairs),
                align=align,
                trust_encoder=trust_encoder,
                device=device,
                overwrite=overwrite,
                resume=resume,
                cache=cache,
                tasks=tasks,
                trackers=[tracker_named(one) for one in dict.fromkeys(track or ())],
                command=[Path(sys.argv[0]).name, *sys.argv[1:]],
                progress=BarProgress(),
                ranks=ranks,
            )
    if ranks.first:
        _tell(out or RUNS_FOLDER / made.name, made, json=json)


def _tell(out: Path, made: Bridge, *, json: bool) -> None:
    """Print what was made."""
    from bridge.training.train import WEIGHT

    if json:
        print_json({"bridge": str(out), **made.about()})
        return
    told = [f"{out}: {' + '.join(made.spaces)}, {made.dimension}-d"]
    weights = [
        f"{name.removeprefix(WEIGHT)} {share:.2f}"
        for name, share in made.metrics.items()
        if name.startswith(WEIGHT)
    ]
    if weights:
        told.append(f"a mixture of {', '.join(weights)}")
    if "loss" in made.metrics:
        told.append(f"loss {made.metrics['loss']:.4f}")
    if "held_out_r1" in made.metrics:
        told.append(f"held-out hub R@1 {made.metrics['held_out_r1']:.3f}")
    typer.echo(", ".join(told))
