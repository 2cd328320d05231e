"""`mcr verify`: is what lies on the disk what was written?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import choices
from cli.boundary import USER_ERROR
from cli.options import Json
from cli.output import print_json

_MARKS = {"good": "ok   ", "note": "note ", "bad": "BAD  "}


def verify(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Memories, indices, also in Milvus, bridges, trainings, or folders of them.",
            autocompletion=choices.file_or_address,
        ),
    ],
    partners: Annotated[
        bool,
        typer.Option("--partners", help="Also: do the memories hold the same items, as hubs must?"),
    ] = False,
    json: Json = False,
) -> None:
    """Check files against their checksums, and say what to do.

    Reads everything once: content, norms, ids, what belongs together. The exit code is 1 if
    anything is bad.
    """
    from bridge.verification.address import verify_address
    from bridge.verification.memories import verify_partners
    from bridge.verification.place import verify as run_verify
    from cli.progress import BarProgress
    from features.errors import UserError
    from features.memories.sharded import open_memory
    from features.search.backends import is_address

    paths = list(dict.fromkeys(paths))
    if partners and len(paths) < 2:
        raise UserError(f"--partners compares memories and {len(paths)} is given: give two or more")
    findings = [
        one
        for path in paths
        for one in (
            verify_address(path, progress=BarProgress())
            if is_address(path)
            else run_verify(Path(path), progress=BarProgress())
        )
    ]
    if partners and not any(one.state == "bad" for one in findings):
        findings.append(verify_partners([open_memory(path) for path in paths]))
    if json:
        print_json([asdict(one) for one in findings])
    else:
        for one in findings:
            named = one.told.startswith(f"{one.path} ")  # as errors begin
            typer.echo(f"{_MARKS[one.state]}{one.told if named else f'{one.path}: {one.told}'}")
    if any(one.state == "bad" for one in findings):
        raise typer.Exit(USER_ERROR)
