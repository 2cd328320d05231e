"""`mcr project`: a memory into a bridge's shared space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import BridgeFolder, Device, Json, Overwrite, TrustEncoder
from cli.output import print_memory


def project(
    memory: Annotated[Path, typer.Argument(help="A memory of one of the bridge's spaces.")],
    bridge: BridgeFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The projected memory, NAME.h5.")],
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Project a memory into the shared space of a bridge."""
    from bridge.artefact import load
    from bridge.projection import project_memory
    from cli.progress import BarProgress
    from features.files import require_h5
    from features.memories.sharded import open_memory

    made = project_memory(
        load(bridge, device=device),
        open_memory(memory),
        require_h5(out),
        overwrite=overwrite,
        trust_encoder=trust_encoder,
        progress=BarProgress(),
    )
    print_memory(made, json=json)
