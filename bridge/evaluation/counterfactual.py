"""Counterfactual recognition: does a model know when nothing in the picture sounds?

Extended VGG-SS and Extended Flickr-SoundNet add pictures with sounds of other things (SLAVC,
NeurIPS 2022; formulas in `bridge.metrics.recognition`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.artefact import Bridge
from bridge.evaluation.localisation import QueryRows, iou_of, no_samples
from bridge.evaluation.picture_maps import PictureMaps
from bridge.evaluation.results import Result, Samples, measured
from bridge.metrics.maps import confidence, truth_map
from features.datasets.annotations import Annotations, Box
from features.datasets.matching import RowsByName
from features.datasets.pairs import Pair
from features.errors import UserError
from features.memory import Memory
from features.progress import SILENT, Progress


def counterfactual_result(
    maps: PictureMaps,
    sounds: Memory,
    annotations: Annotations,
    pairs: Sequence[Pair] | None = None,
    *,
    pairs_file: Mapping[str, str] | None = None,
    bridge: Bridge | None = None,
    threshold: float | None = None,
    settings: Mapping[str, Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    trust_encoder: bool = False,
    progress: Progress = SILENT,
) -> Result:
    """AP, max-F1 and LocAcc.

    pairs: pictures and sounds of an extended set; those that sound have boxes in `annotations`. If
    none of them sounds, the annotated samples do. None: annotated samples without a box are silent.
    threshold: as of `localisation_result`. Raises UserError without sounding or silent samples.
    """
    queries = QueryRows(maps, sounds, bridge, trust_encoder=trust_encoder)
    boxes = _Boxes(annotations)
    wanted = _wanted(annotations, pairs)
    left_out: Counter[str] = Counter()
    columns: dict[str, list[float]] = {"sounding": [], "ciou": [], "confidence": []}
    ids = []
    with progress.task("recognise", len(wanted), unit="samples") as advance:
        for pair in wanted:
            advance(1)
            marked = boxes.of(pair.image) if pair.sounding else ()
            truth = truth_map(marked, agreed=annotations.agreed, size=maps.size)
            if pair.sounding and not bool(truth.any()):
                left_out["sounding samples without a box"] += 1
                continue
            found = queries.find(pair.image, pair.audio, left_out)
            if found is None:
                continue
            values = maps.map(*found)
            columns["sounding"].append(float(pair.sounding))
            columns["ciou"].append(iou_of(values, truth, threshold) if pair.sounding else 0.0)
            columns["confidence"].append(confidence(values))
            ids.append(f"{pair.image} {pair.audio}")
    if not ids:
        raise UserError(no_samples(annotations, maps.memory, sounds, left_out))
    sounding = int(sum(columns["sounding"]))
    _check_both(sounding, len(ids) - sounding, annotations)
    return measured(
        "counterfactual",
        {"all": Samples(ids, columns)},
        bridge=bridge,
        memories={"pictures": maps.memory, "sounds": sounds},
        settings={**(settings or {}), "threshold": "median" if threshold is None else threshold},
        counts={"sounding samples": sounding, "silent samples": len(ids) - sounding, **+left_out},
        annotations={
            "annotations": annotations,
            **({} if pairs_file is None else {"pairs": pairs_file}),
        },
        resamples=resamples,
        seed=seed,
        progress=progress,
    )


def _wanted(annotations: Annotations, pairs: Sequence[Pair] | None) -> list[Pair]:
    annotated = [Pair(one.image, one.audio, bool(one.boxes)) for one in annotations.samples]
    if pairs is None:
        return annotated
    if any(pair.sounding for pair in pairs):
        return list(pairs)
    return [*(pair for pair in annotated if pair.sounding), *pairs]


class _Boxes:
    """Boxes of pictures by name."""

    def __init__(self, annotations: Annotations) -> None:
        self._samples = annotations.samples
        self._rows = RowsByName([one.image for one in annotations.samples])

    def of(self, image: str) -> Sequence[Box]:
        """None if the picture is not annotated."""
        row = self._rows.find(image)
        return () if row is None else self._samples[row].boxes


def _check_both(sounding: int, silent: int, annotations: Annotations) -> None:
    if not sounding:
        raise UserError(
            f"none of the {silent} samples sounds with a box in {annotations.path}, so nothing can "
            "be recognised: give the annotations that the extended set was made from"
        )
    if not silent:
        raise UserError(
            f"all {sounding} samples of {annotations.path} sound, so there is nothing to be wrong "
            "about: give the extended set's file with --pairs, or use `mcr eval localisation`"
        )
