"""Options that several protocols share, in groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Device, EncoderOverrides, Json, TrustEncoder

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
        metavar="FILE.json",
        help="The result to write. Unset: in results/ of the bridge's folder, or of the first "
        "memory's.",
    ),
]
Resamples = Annotated[
    int, typer.Option(min=0, help="Bootstrap resamples of the 95 % intervals; 0 for none.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of these draws.")]
Dataset = Annotated[
    str | None,
    typer.Option(
        help="Whose annotations these are: vggss, music-solo, flickr-soundnet, ave, esc50, "
        "modelnet40, or boxes of your own."
    ),
]
AnnotationFile = Annotated[
    Path | None,
    typer.Option("--annotations", help="The data set's annotation file, or folder of them."),
]
Pictures = Annotated[
    str | None,
    typer.Option(
        "--pictures",
        help="Memory of pictures with local embeddings (`mcr extract --local`), or their files.",
    ),
]
Crops = Annotated[Path | None, typer.Option(help="Instead of pictures, a memory of crops of them.")]
Regions = Annotated[
    Path | None, typer.Option(help="With --crops, the table of `mcr crops`: where each one is.")
]
Sounds = Annotated[str, typer.Option("--sounds", help="Memory of what is localised, or its files.")]
Grid = Annotated[
    str | None,
    typer.Option(metavar="ROWSxCOLUMNS", help="How the local embeddings lie. Unset: as recorded."),
]
Fit = Annotated[
    str | None,
    typer.Option(help="How the encoder fits pictures: crop, pad or squash. Unset: as recorded."),
]
Upsample = Annotated[
    str | None, typer.Option(help="Of maps: bicubic, bilinear or nearest. Unset: bicubic.")
]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Of maps from 0 to 1: what is predicted. Unset: the median."),
]


@dataclass(frozen=True)
class Labels:
    """What is right: a data set's annotations."""

    dataset: Dataset = None
    annotations: AnnotationFile = None


@dataclass(frozen=True)
class Places:
    """Where a sound is looked for, and how the maps are made and cut."""

    sounds: Sounds
    pictures: Pictures = None
    crops: Crops = None
    regions: Regions = None
    grid: Grid = None
    fit: Fit = None
    upsample: Upsample = None
    threshold: Threshold = None


@dataclass(frozen=True)
class Measuring:
    """How every protocol that measures samples goes about it."""

    bridge: BridgeOrNone = None
    encoder: EncoderOverrides = None
    resamples: Resamples = 1000
    seed: Seed = 0
    out: Out = None
    trust_encoder: TrustEncoder = False
    device: Device = "auto"
    json: Json = False
