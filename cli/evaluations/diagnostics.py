"""`mcr eval diagnostics`: what a space or a bridge is like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluations.answer import check_out, finish, told, write
from cli.evaluations.inputs import load_bridge, work_folder
from cli.evaluations.options import BridgeOrNone, Out, Seed
from cli.options import Device, Json, TrustEncoder
from cli.output import print_json, print_table

if TYPE_CHECKING:
    from bridge.evaluation.results import Result

ROWS = 10_000
_WHEN = ("before", "after")


def diagnostics(
    memories: Annotated[
        list[Path], typer.Argument(metavar="MEMORY", help="Memories of one space, or of several.")
    ],
    bridge: BridgeOrNone = None,
    neighbours: Annotated[
        int, typer.Option(min=1, help="Of hubs and of neighbourhoods, the k nearest.")
    ] = 10,
    rows: Annotated[
        int, typer.Option(min=3, help="Rows of each memory that are looked at, at most.")
    ] = ROWS,
    seed: Seed = 0,
    out: Out = None,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Describe a space, or what a bridge did to it.

    The modality gap, alignment, uniformity, CKA, hubness and agreement of neighbours, of each
    memory and of each two, before in their own spaces and, with --bridge, after in the shared one.
    Alignment, CKA and agreement are of items with the same ids.
    """
    from bridge.evaluation.diagnostics import diagnostics_result
    from cli.progress import BarProgress
    from features.memories.sharded import open_memory

    check_out(out)
    result = diagnostics_result(
        [open_memory(path) for path in memories],
        bridge=load_bridge(bridge, device),
        neighbours=neighbours,
        rows=rows,
        seed=seed,
        trust_encoder=trust_encoder,
        progress=BarProgress(),
    )
    path = write(result, out, work_folder(bridge, memories[0]))
    if json:
        print_json(told(result, path))
        return
    print_table(["", "", *(_WHEN if bridge is not None else _WHEN[:1])], _lines(result))
    finish(result, path)


def _lines(result: Result) -> list[list[str]]:
    """A row for each figure of each part, before and after."""
    lines = []
    when = _WHEN if result.bridge is not None else _WHEN[:1]
    for part, figures in result.figures.items():
        for name in dict.fromkeys(_without_when(name) for name in figures):
            values = [figures.get(_with_when(name, one)) for one in when]
            lines.append([part, name, *("-" if v is None else f"{v:.4f}" for v in values)])
    return lines


def _without_when(name: str) -> str:
    for when in _WHEN:
        name = name.replace(f" {when}", "")
    return name


def _with_when(name: str, when: str) -> str:
    head, comma, rest = name.partition(",")
    return f"{head} {when}{comma}{rest}"
