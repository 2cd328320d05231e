"""Options that the kinds of pictures share, and what all of them begin and end with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bridge.artefact import Bridge
    from bridge.pictures.canvas import Style
    from features.memories.memory import Memory

Memories = Annotated[list[Path], typer.Argument(help="Memories, one or more.")]
BridgeOrNone = Annotated[
    Path | None,
    typer.Option(
        "--bridge", "-b", help="From `mcr train`. Unset: in the space that all memories are of."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="The picture: .svg, .pdf or .png. Unset: KIND.svg in this folder.",
    ),
]
ThemeName = Annotated[
    str, typer.Option("--theme", help="light, dark, or transparent, to be read on either.")
]
Width = Annotated[
    str, typer.Option(help="Of a paper of two columns: column (3.35 in) or page (6.9 in).")
]
Items = Annotated[
    int, typer.Option(min=1, help="Items of each memory at most; of more, as many are drawn.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")]
Relevance = Annotated[
    str, typer.Option(help="What is right: labels, ids, or auto, labels where both have them.")
]


def begin(
    out: Path | None, kind: str, theme: str, width: str, *, overwrite: bool
) -> tuple[Style, Path]:
    """The style and the file, checked before any work."""
    from bridge.pictures.canvas import WIDTHS, Style, check_picture
    from bridge.pictures.palette import theme_named
    from features.extras import require_package
    from features.files import refuse_existing
    from features.suggest import unknown

    require_package("matplotlib", "a picture")
    if width not in WIDTHS:
        raise unknown("width", width, WIDTHS)
    out = out or Path(f"{kind}.svg")
    check_picture(out)
    refuse_existing(out, overwrite=overwrite, remedy="--overwrite")
    return Style(theme_named(theme), WIDTHS[width]), out


def opened(paths: Sequence[Path]) -> list[Memory]:
    """Memories. Raises UserError for a folder, which a bridge is."""
    from features.errors import UserError
    from features.memories.sharded import open_memory

    for path in paths:
        if path.is_dir():
            raise UserError(
                f"{path} is a folder but this picture is of memories: name a bridge's folder "
                "with --bridge"
            )
    return [open_memory(path) for path in paths]


def loaded(folder: Path | None, device: str) -> Bridge | None:
    """The bridge in a folder, if one is named."""
    from bridge.artefact import load

    return None if folder is None else load(folder, device=device)


def end(figure: Any, out: Path, style: Style) -> None:
    """Write the picture, and say where it is."""
    from bridge.pictures.canvas import save

    typer.echo(save(figure, out, style))
