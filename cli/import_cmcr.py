"""`mcr import-cmcr`: the published projectors of C-MCR and Ex-MCR as a bridge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import Json, Overwrite, pairs
from cli.output import note, print_json


def import_cmcr(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            help="clap_clip.pt or ulip_clip.pt of C-MCR; or ex_clap.pt, ex_ulip.pt or both of "
            "Ex-MCR."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bridge's folder.")],
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="Of Ex-MCR: clap or ulip, for each checkpoint. Unset: by the file's name."
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            metavar="SPACE=SPEC",
            help="Load the encoder of SPACE and record its weights, so that others are refused.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Turn published C-MCR or Ex-MCR projectors into a bridge.

    The authors' heads are called A and B and change places between their models; here each
    lands on its own space.
    """
    from bridge.published import import_published
    from bridge.runs.layout import ABOUT_FILE
    from features.errors import UserError

    if (out / ABOUT_FILE).exists() and not overwrite:
        raise UserError(f"{out} is a bridge already: pass --overwrite or choose another output")
    if out.is_file():
        raise UserError(f"{out} is a file but a bridge is a folder: choose another output")
    encoders = {
        name: _described(spec)
        for name, spec in pairs("--encoder", encoder, form="SPACE=SPEC").items()
    }
    bridge = import_published(checkpoints, name=out.name, spaces=space or (), encoders=encoders)
    bridge.save(out)
    unknown = [one.name for one in bridge.spaces.values() if not one.encoder.get("weights")]
    if unknown:
        note(
            f"which weights the projectors of {' and '.join(unknown)} belong to is not recorded, "
            "and will be taken on trust: record it with --encoder SPACE=SPEC"
        )
    if json:
        print_json({"bridge": str(out), **bridge.about()})
        return
    joined = "; ".join(f"{one.name}: {', '.join(one.modalities)}" for one in bridge.spaces.values())
    typer.echo(f"{out}: {joined}; {bridge.dimension}-d")


def _described(spec: str) -> dict[str, Any]:
    from bridge.published import DIMENSION
    from features.encoders import load_encoder
    from features.errors import UserError

    loaded = load_encoder(spec, device="cpu")
    if loaded.space.dimension != DIMENSION:
        raise UserError(
            f"the encoder {spec} has {loaded.space.dimension} dimensions but the published "
            f"projectors take {DIMENSION}: name the encoder that they were trained on"
        )
    return loaded.description.as_dict()
