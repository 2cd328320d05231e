"""`mcr pull`: a bridge from the Hugging Face Hub, or from a plain folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Overwrite
from cli.output import note, print_json


def pull(
    source: Annotated[
        str,
        typer.Argument(
            help="hf:OWNER/NAME on the Hub, or a plain folder. OWNER/NAME is the Hub's where no "
            "folder OWNER is here; ./OWNER/NAME never is."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the bridge. Unset: called as the source is."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the repository.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fetch a bridge from the Hugging Face Hub or a plain folder.

    Only safetensors, JSON, TOML and the model card are fetched, and the bridge is put in place when
    it has been loaded. Without a network, what was fetched before is taken from the Hub's cache.
    """
    from bridge.sharing.place import place_named
    from bridge.sharing.transfer import pull as run_pull

    done = run_pull(place_named(source), out, revision=revision, overwrite=overwrite)
    if done.share.told:
        note(done.share.told)
    if json:
        print_json(
            {
                "bridge": done.place,
                "source": source,
                "commit": done.revision,
                "files": done.share.names,
                "left_out": done.share.left_out,
                "bytes": done.bytes,
            }
        )
        return
    typer.echo(f"{done.place}: {len(done.share.names)} files, {done.bytes / 1e6:.1f} MB")
