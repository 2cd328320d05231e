"""Source localisation: where in its picture a sound comes from (MUSIC-Solo, VGG-SS, Flickr)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.artefact import Bridge
from bridge.evaluation.picture_maps import PictureMaps
from bridge.evaluation.results import Result, Samples, measured
from bridge.evaluation.rows import check_one_space, comparable_rows
from bridge.metrics.maps import consensus_iou, minmax, predicted, truth_map
from features.datasets.annotations import Annotations, Sample
from features.datasets.matching import RowsByName
from features.errors import UserError
from features.memories.memory import Memory
from features.progress import SILENT, Progress


def localisation_result(
    maps: PictureMaps,
    sounds: Memory,
    annotations: Annotations,
    *,
    bridge: Bridge | None = None,
    threshold: float | None = None,
    settings: Mapping[str, Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    trust_encoder: bool = False,
    progress: Progress = SILENT,
) -> Result:
    """cIoU, its success at 0.5 and the area under its success curve.

    sounds: what is localised, of any modality. threshold: of the map from 0 to 1, above which a
    pixel is predicted; None, the median. settings: what else to record of how maps were made.
    Raises UserError if no sample has a picture, a sound and a box.
    """
    if not annotations.has_boxes:
        raise UserError(
            f"{annotations.path} has no boxes, so there is nothing to localise: give the "
            "annotations of VGG-SS, MUSIC-Solo or Flickr-SoundNet, or boxes of your own"
        )
    queries = QueryRows(maps, sounds, bridge, trust_encoder=trust_encoder)
    left_out: Counter[str] = Counter()
    kept: list[Sample] = []
    ious: list[float] = []
    with progress.task("localise", len(annotations.samples), unit="samples") as advance:
        for sample in annotations.samples:
            advance(1)
            truth = truth_map(sample.boxes, agreed=annotations.agreed, size=maps.size)
            if not sample.boxes:
                left_out["samples without a box"] += 1
            elif not bool(truth.any()):
                left_out["samples whose boxes hold no pixel"] += 1
            else:
                found = queries.find(sample.image, sample.audio, left_out)
                if found is not None:
                    values = maps.map(found.picture, queries.rows[found.sound])
                    ious.append(iou_of(values, truth, threshold))
                    kept.append(sample)
    if not kept:
        raise UserError(no_samples(annotations, maps.memory, sounds, left_out))
    part = Samples(
        ids=[one.id for one in kept],
        columns={"ciou": ious},
        units=[one.group or one.id for one in kept],
    )
    return measured(
        "localisation",
        {"all": part},
        bridge=bridge,
        memories={"pictures": maps.memory, "sounds": sounds},
        settings={**(settings or {}), "threshold": "median" if threshold is None else threshold},
        counts={"samples": len(kept), **+left_out},
        annotations={"annotations": annotations},
        resamples=resamples,
        seed=seed,
        progress=progress,
    )


class Found(NamedTuple):
    """Numbers of a picture among the maps, and of a sound among the rows."""

    picture: int
    sound: int


class QueryRows:
    """Sounds as rows of the space in which the maps of pictures are made."""

    def __init__(
        self, maps: PictureMaps, sounds: Memory, bridge: Bridge | None, *, trust_encoder: bool
    ) -> None:
        if bridge is None:
            check_one_space((maps.memory, sounds), trust_encoder=trust_encoder)
        self.rows = comparable_rows(bridge, [sounds], trust_encoder=trust_encoder)[0]
        self._names = RowsByName(sounds.ids)
        self._picture: Callable[[str], int | None] = maps.find

    def find(self, image: str, audio: str, left_out: Counter[str]) -> Found | None:
        """The picture and the sound of these names, or None, counting what is absent."""
        picture, sound = self._picture(image), self._names.find(audio)
        left_out["samples without their picture"] += picture is None
        left_out["samples without their sound"] += picture is not None and sound is None
        return None if picture is None or sound is None else Found(picture, sound)


def iou_of(
    values: Float[Tensor, "s s"], truth: Float[Tensor, "s s"], threshold: float | None
) -> float:
    """cIoU of a map with the truth."""
    return consensus_iou(predicted(minmax(values), threshold), truth.to(torch.float64))


def no_samples(
    annotations: Annotations, pictures: Memory, sounds: Memory, left_out: Counter[str]
) -> str:
    """Why nothing was left to measure, as a sentence."""
    why = ", ".join(f"{number} {what}" for what, number in left_out.items() if number)
    first = annotations.samples[0]
    return (
        f"no sample of {annotations.path} ({first.image}, {first.audio}, ...) can be measured on "
        f"{pictures.path} ({pictures.ids[0]}, ...) and {sounds.path} ({sounds.ids[0]}, ...): "
        f"{why}; extract the files under their authors' names"
    )
