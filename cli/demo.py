"""`mcr demo`: the whole journey on made-up data, in about a minute."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Device, Json
from cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from bridge.demo import DemoResult


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for data, memories, bridges, pictures.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the data.")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """See the whole journey on made-up data.

    Makes pictures, sounds, point clouds and sentences of numbers, embeds them with small
    built-in encoders, bridges the spaces without pairs, and retrieves numbers that no training
    saw. What is in the folder already is kept.
    """
    from bridge.demo import Demo
    from cli.progress import BarProgress

    started = time.monotonic()
    result = Demo(out, device=device, seed=seed, progress=BarProgress()).run()
    if json:
        print_json(_summary(result))
        return
    _print(result)
    note(f"{time.monotonic() - started:.0f} seconds")


def _summary(result: DemoResult) -> dict[str, Any]:
    return {
        "tasks": {
            outcome.task.name: {
                "r1_unpaired": outcome.unpaired.recall[1],
                "r1_true_pairs": outcome.paired.recall[1],
                "r1_chance": outcome.chance,
                "map_unpaired": outcome.unpaired.mean_average_precision,
                "map_true_pairs": outcome.paired.mean_average_precision,
                "share": outcome.share,
            }
            for outcome in result.outcomes
        },
        "pictures": [str(path) for path in result.pictures],
    }


def _print(result: DemoResult) -> None:
    for answer in result.answers:
        typer.echo(f"\n$ mcr query {os.path.relpath(answer.query.value)} \\")
        typer.echo(f"    --bridge {answer.bridge} --index {answer.index} -k 3")
        for hit in answer.hits[:3]:
            right = "right" if hit.label == answer.number else "wrong"
            typer.echo(f"{hit.score:.4f}  {hit.id:8}  {hit.item}  ({right})")
    typer.echo("\nR@1 on unseen three-digit numbers, among all unseen numbers:")
    print_table(
        ["", "chance", "unpaired bridge", "true pairs", "share"],
        [
            [
                f"{outcome.task.query[1]} -> {outcome.task.gallery[1]}",
                f"{outcome.chance:.3f}",
                f"{outcome.unpaired.recall[1]:.3f}",
                f"{outcome.paired.recall[1]:.3f}",
                f"{outcome.share:.2f}",
            ]
            for outcome in result.outcomes
        ],
    )
    typer.echo("\nPictures:")
    for path in result.pictures:
        typer.echo(f"  {path}")
