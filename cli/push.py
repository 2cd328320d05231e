"""`mcr push`: a bridge to the Hugging Face Hub, or into a plain folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Overwrite
from cli.output import note, print_json


def push(
    bridge: Annotated[Path, typer.Argument(help="A bridge's folder.")],
    target: Annotated[
        str,
        typer.Argument(
            help="hf:OWNER/NAME on the Hub, or a plain folder. OWNER/NAME is the Hub's where no "
            "folder OWNER is here; ./OWNER/NAME never is."
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch of the repository, made if it is not there.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository that only you can see.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="Of the commit on the Hub.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Share a bridge on the Hugging Face Hub or in a plain folder.

    Weights, settings, figures, results of evaluations and the model card go; memories, pictures,
    tracker files and anything pickled stay, and are named. The Hub takes HF_TOKEN, or the token of
    `hf auth login`.
    """
    from bridge.sharing.place import place_named
    from bridge.sharing.transfer import push as run_push

    done = run_push(
        bridge, place_named(target), revision=revision, private=private, message=message,
        overwrite=overwrite,
    )  # fmt: skip
    if done.share.told:
        note(done.share.told)
    if json:
        print_json(
            {
                "bridge": str(bridge),
                "target": done.place,
                "commit": done.revision,
                "files": done.share.names,
                "left_out": done.share.left_out,
                "bytes": done.bytes,
            }
        )
        return
    typer.echo(f"{done.place}: {len(done.share.names)} files, {done.bytes / 1e6:.1f} MB")
