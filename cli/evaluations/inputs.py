"""What the protocols read: bridges, memories, annotations, and maps of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.runs.layout import RESULTS_FOLDER
from cli.output import note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.artefact import Bridge
    from bridge.evaluation.picture_maps import PictureMaps
    from features.datasets.annotations import Annotations
    from features.memory import Memory
    from features.space import Modality


def load_bridge(folder: Path | None, device: str) -> Bridge | None:
    """The bridge in a folder, if one is named."""
    from bridge.artefact import load

    return None if folder is None else load(folder, device=device)


def read_labels(dataset: str | None, path: Path | None) -> Annotations | None:
    """A data set's annotations, with their notes told. Raises UserError for half of the options."""
    from features.datasets import read_annotations
    from features.errors import UserError

    if dataset is None and path is None:
        return None
    if dataset is None or path is None:
        given, other = (
            ("--annotations", "--dataset") if dataset is None else ("--dataset", "--annotations")
        )
        raise UserError(f"{given} is given without {other}: give both, the file and whose it is")
    annotations = read_annotations(dataset, path)
    for sentence in annotations.notes:
        note(sentence)
    return annotations


def open_memory(
    location: str,
    modality: Modality | None = None,
    *,
    bridge: Bridge | None,
    folder: Path,
    local: bool = False,
    overrides: Mapping[str, str] | None = None,
    device: str = "auto",
) -> Memory:
    """A memory, or files embedded into one, in `folder`, with the bridge's encoder.

    modality: of the files; None, what a folder's files are.
    """
    from bridge.evaluation.extraction import extraction_of, modality_of
    from cli.progress import BarProgress
    from features.memory import Memory

    if Path(location).suffix == ".h5":
        return Memory(location)
    done = extraction_of(
        location, modality or modality_of(location), folder, bridge=bridge, local=local,
        overrides=overrides, device=device, progress=BarProgress(),
    )  # fmt: skip
    if done.failures:
        note(f"{len(done.failures)} items failed and are listed in {done.failures_path}")
    return done.memory


def work_folder(bridge: Path | None, first: str | Path) -> Path:
    """Where results go, and memories that are made on the way."""
    return (bridge if bridge is not None else Path(first).parent) / RESULTS_FOLDER


def picture_maps(
    pictures: str | None,
    crops: Path | None,
    regions: Path | None,
    bridge: Bridge | None,
    folder: Path,
    *,
    grid: str | None,
    fit: str | None,
    upsample: str,
    overrides: Mapping[str, str],
    device: str,
    trust_encoder: bool,
) -> tuple[PictureMaps, dict[str, Any]]:
    """Maps of pictures or of crops, and the settings they were made with."""
    from bridge.evaluation.picture_maps import CropMaps, LocalMaps
    from features.errors import UserError
    from features.memory import Memory

    if (pictures is None) == (crops is None):
        raise UserError("say where to localise: give either --pictures or --crops")
    if crops is not None:
        if regions is None:
            raise UserError("--crops needs --regions, the table that `mcr crops` wrote: give it")
        made = CropMaps(Memory(crops), regions, bridge, trust_encoder=trust_encoder)
        return made, {"maps": "crops"}
    if upsample not in ("bicubic", "bilinear", "nearest"):
        raise UserError(f"--upsample is '{upsample}' but is bicubic, bilinear or nearest")
    memory = open_memory(
        str(pictures), "image", bridge=bridge, folder=folder, local=True, overrides=overrides,
        device=device,
    )  # fmt: skip
    shape = None if grid is None else parse_grid(grid)
    maps = LocalMaps(
        memory, bridge, grid=shape, fit=fit, upsampling=upsample,  # type: ignore[arg-type]
        trust_encoder=trust_encoder,
    )  # fmt: skip
    rows, columns = maps.view.grid
    return maps, {
        "maps": "local embeddings",
        "grid": f"{rows}x{columns}",
        "fit": maps.view.fit,
        "upsampling": upsample,
    }


def parse_grid(grid: str) -> tuple[int, int]:
    """Rows and columns. Raises UserError if it does not read ROWSxCOLUMNS."""
    from features.errors import UserError

    rows, separator, columns = grid.lower().partition("x")
    if not separator or not rows.isdigit() or not columns.isdigit():
        raise UserError(f"--grid {grid} should read ROWSxCOLUMNS, such as 7x7")
    return int(rows), int(columns)
