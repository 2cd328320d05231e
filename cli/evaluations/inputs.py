"""What the protocols read: bridges, memories, annotations, and maps of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.runs.layout import RESULTS_FOLDER
from cli.evaluations.answer import answer, check_out, write
from cli.options import pairs
from cli.output import note

if TYPE_CHECKING:
    from bridge.artefact import Bridge
    from bridge.evaluation.picture_maps import PictureMaps
    from bridge.evaluation.results import Result
    from cli.evaluations.options import Labels, Measuring, Places
    from features.datasets.annotations import Annotations
    from features.memories.memory import Memory
    from features.space import Modality

UPSAMPLING = ("bicubic", "bilinear", "nearest")  # the first unless told


class Evaluation:
    """One run of a protocol: its bridge, the memories it opens, and its answer."""

    def __init__(self, measuring: Measuring, first: str | Path) -> None:
        """first: the first memory, or its files; results lie beside it if there is no bridge."""
        check_out(measuring.out)
        self.measuring = measuring
        self.bridge = load_bridge(measuring.bridge, measuring.device)
        self.folder = work_folder(measuring.bridge, first)
        self.overrides = pairs("--encoder", measuring.encoder, form="SPACE=SPEC")

    @property
    def how(self) -> dict[str, Any]:
        """What every protocol's function takes."""
        from cli.progress import BarProgress

        return {
            "bridge": self.bridge,
            "resamples": self.measuring.resamples,
            "seed": self.measuring.seed,
            "trust_encoder": self.measuring.trust_encoder,
            "progress": BarProgress(),
        }

    def memory(
        self, location: str, modality: Modality | None = None, *, local: bool = False
    ) -> Memory:
        """A memory, or files embedded into one, with the bridge's encoder.

        modality: of the files; None, what a folder's files are.
        """
        from bridge.evaluation.extraction import extraction_of, modality_of
        from cli.progress import BarProgress
        from features.memories.sharded import open_memory

        if Path(location).suffix == ".h5":
            return open_memory(location)
        done = extraction_of(
            location, modality or modality_of(location), self.folder, bridge=self.bridge,
            local=local, overrides=self.overrides, device=self.measuring.device,
            progress=BarProgress(),
        )  # fmt: skip
        if done.failures:
            note(f"{len(done.failures)} items failed and are listed in {done.failures_path}")
        return done.memory

    def maps(self, places: Places) -> tuple[PictureMaps, dict[str, Any]]:
        """Maps of pictures or of crops, and the settings they were made with."""
        from bridge.evaluation.picture_maps import CropMaps, LocalMaps
        from features.memories.sharded import open_memory

        trust = self.measuring.trust_encoder
        if places.crops is not None and places.regions is not None:
            crops = open_memory(places.crops)
            made = CropMaps(crops, places.regions, self.bridge, trust_encoder=trust)
            return made, {"maps": "crops"}
        upsampling = places.upsample or UPSAMPLING[0]
        maps = LocalMaps(
            self.memory(str(places.pictures), "image", local=True),
            self.bridge,
            grid=None if places.grid is None else parse_grid(places.grid),
            fit=places.fit,
            upsampling=upsampling,  # type: ignore[arg-type]
            trust_encoder=trust,
        )
        rows, columns = maps.view.grid
        return maps, {
            "maps": "local embeddings",
            "grid": f"{rows}x{columns}",
            "fit": maps.view.fit,
            "upsampling": upsampling,
        }

    def write(self, result: Result) -> Path:
        """Write the result where the user said, or in the folder."""
        return write(result, self.measuring.out, self.folder)

    def answer(self, result: Result) -> None:
        """Write the result, and print it."""
        answer(result, self.write(result), json=self.measuring.json)


def localising(places: Places, measuring: Measuring) -> Evaluation:
    """An evaluation on maps. Raises UserError unless it is said what they are made from, and how.

    Options of pictures are refused with crops, and the other way round, as they would do nothing.
    """
    from features.errors import UserError

    if (places.pictures is None) == (places.crops is None):
        raise UserError("say where to localise: give either --pictures or --crops")
    if places.crops is not None and places.regions is None:
        raise UserError("--crops needs --regions, the table that `mcr crops` wrote: give it")
    if places.upsample not in (None, *UPSAMPLING):
        raise UserError(
            f"--upsample is '{places.upsample}' but is {', '.join(UPSAMPLING[:-1])} or "
            f"{UPSAMPLING[-1]}"
        )
    given, other, idle = "--pictures", "--crops", ["regions"]
    if places.crops is not None:
        given, other, idle = "--crops", "--pictures", ["grid", "fit", "upsample"]
    for name in idle:
        if getattr(places, name) is not None:
            raise UserError(
                f"--{name} belongs to {other}, and {given} is given: leave --{name} out"
            )
    return Evaluation(measuring, places.pictures or str(places.crops))


def load_bridge(folder: Path | None, device: str) -> Bridge | None:
    """The bridge in a folder, if one is named."""
    from bridge.artefact import load

    return None if folder is None else load(folder, device=device)


def read_labels(labels: Labels) -> Annotations | None:
    """A data set's annotations, with their notes told. Raises UserError for half of the options."""
    from features.datasets import read_annotations
    from features.errors import UserError

    dataset, path = labels.dataset, labels.annotations
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


def read_boxes(labels: Labels, protocol: str) -> Annotations:
    """The same of a protocol that needs them. Raises UserError if they are not named."""
    from features.errors import UserError

    annotations = read_labels(labels)
    if annotations is None:
        raise UserError(
            f"{protocol} needs the boxes of what sounds: give --dataset and --annotations"
        )
    return annotations


def work_folder(bridge: Path | None, first: str | Path) -> Path:
    """Where results go, and memories that are made on the way."""
    return (bridge if bridge is not None else Path(first).parent) / RESULTS_FOLDER


def parse_grid(grid: str) -> tuple[int, int]:
    """Rows and columns. Raises UsageError if it does not read ROWSxCOLUMNS."""
    from features.errors import UsageError

    rows, separator, columns = grid.lower().partition("x")
    if not separator or not rows.isdigit() or not columns.isdigit():
        raise UsageError(f"--grid {grid} should read ROWSxCOLUMNS, such as 7x7")
    return int(rows), int(columns)
