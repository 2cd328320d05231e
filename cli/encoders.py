"""`mcr encoders`: what there is to embed with."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.options import Json
from cli.output import note, print_json, print_table


def encoders(
    search: Annotated[
        str | None,
        typer.Argument(help="Only those with this in their name; clip lists all of open_clip."),
    ] = None,
    json: Json = False,
) -> None:
    """List what there is to embed with.

    What each encoder embeds, its dimension, its licence where known, and what to install; also
    those that installed packages offer. Your own code works as well: name it MODULE:ATTRIBUTE.
    """
    from features.encoders.catalogue import listed, open_clip_models
    from features.errors import UserError

    if search == "clip":
        models = open_clip_models()
        if json:
            print_json([{"spec": spec, "dimension": dimension} for spec, dimension in models])
        else:
            print_table(["encoder", "dimension"], [[spec, str(width)] for spec, width in models])
        return
    found = [one for one in listed() if search is None or search.lower() in one.spec.lower()]
    if not found:
        raise UserError(f"no encoder has '{search}' in its name: `mcr encoders` lists all")
    if json:
        print_json([{**asdict(one), "install": one.install} for one in found])
        return
    print_table(
        ["encoder", "embeds", "dimension", "licence", "here", "what"],
        [
            [
                one.spec,
                ", ".join(one.embeds) or "-",
                "-" if one.dimension is None else str(one.dimension),
                one.licence,
                "yes" if one.ready else "no",
                one.what,
            ]
            for one in found
        ],
    )
    for line in dict.fromkeys(one.install for one in found if one.install):
        note(f"for those not here: {line}")
