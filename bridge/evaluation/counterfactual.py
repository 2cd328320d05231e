"""Counterfactual recognition: does a model know when nothing in the picture sounds?

Extended VGG-SS and Extended Flickr-SoundNet add pictures with sounds of other things (SLAVC,
NeurIPS 2022; formulas in `bridge.metrics.recognition`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.artefact import Bridge
from bridge.evaluation.localisation import Found, QueryRows, iou_of, no_samples
from bridge.evaluation.picture_maps import PictureMaps
from bridge.evaluation.results import Result, Samples, measured
from bridge.metrics.maps import confidence, truth_map
from features.datasets.annotations import Annotations, Box, Sample
from features.datasets.matching import RowsByName
from features.datasets.pairs import Pair
from features.errors import UserError
from features.memories.memory import Memory
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

    pairs: pictures and sounds of an extended set; those that sound have boxes in `annotations`, of
    the same sound in the same picture, or else of the picture. If none of them sounds, the
    annotated samples do. None: annotated samples without a box are silent.
    threshold: as of `localisation_result`. Raises UserError without sounding or silent samples, for
    a picture and a sound that are both, and for a pair whose picture has other boxes for each of
    its sounds, none of them the pair's.
    """
    queries = QueryRows(maps, sounds, bridge, trust_encoder=trust_encoder)
    wanted = _wanted(annotations, pairs)
    _check_kinds([pair for pair, _ in wanted], queries)
    sounding = sum(pair.sounding for pair, _ in wanted)
    _check_both(sounding, len(wanted) - sounding, annotations)  # before the maps, which take long
    left_out: Counter[str] = Counter()
    columns: dict[str, list[float]] = {"sounding": [], "ciou": [], "confidence": []}
    ids = []
    with progress.task("recognise", len(wanted), unit="samples") as advance:
        for pair, boxes in wanted:
            advance(1)
            truth = truth_map(boxes, agreed=annotations.agreed, size=maps.size)
            if pair.sounding and not bool(truth.any()):
                left_out["sounding samples without a box"] += 1
                continue
            found = queries.find(pair.image, pair.audio, left_out)
            if found is None:
                continue
            values = maps.map(found.picture, queries.rows[found.sound])
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


def _wanted(
    annotations: Annotations, pairs: Sequence[Pair] | None
) -> list[tuple[Pair, Sequence[Box]]]:
    """Each sample, and the boxes of what sounds in it."""
    annotated = [
        (Pair(one.image, one.audio, bool(one.boxes)), one.boxes) for one in annotations.samples
    ]
    if pairs is None:
        return annotated
    if any(pair.sounding for pair in pairs):
        boxes = _Boxes(annotations)
        return [(pair, boxes.of(pair) if pair.sounding else ()) for pair in pairs]
    return [*(one for one in annotated if one[0].sounding), *((pair, ()) for pair in pairs)]


def _check_kinds(pairs: Sequence[Pair], queries: QueryRows) -> None:
    """Raise UserError for a picture and a sound that sound by one name and are silent by another.

    Names may differ in folders and suffixes; what decides is which items they are of.
    """
    first: dict[Found, Pair] = {}
    for pair in pairs:
        found = queries.find(pair.image, pair.audio, Counter())
        if found is None or first.setdefault(found, pair).sounding == pair.sounding:
            continue
        one, other = sorted((first[found], pair), key=lambda each: not each.sounding)
        raise UserError(
            f"{one.image} with {one.audio} is said to sound, and {other.image} with {other.audio} "
            "to be silent, but they are the same picture and sound: keep one of them"
        )


class _Boxes:
    """Boxes of pairs by the names of picture and sound; a picture can have several sounds."""

    def __init__(self, annotations: Annotations) -> None:
        self._path = annotations.path
        self._of: dict[str, list[Sample]] = {}
        for sample in annotations.samples:
            self._of.setdefault(sample.image, []).append(sample)
        self._images = list(self._of)
        self._rows = RowsByName(self._images)

    def of(self, pair: Pair) -> Sequence[Box]:
        """None if the picture is not annotated. Raises UserError if it is not clear which."""
        row = self._rows.find(pair.image)
        if row is None:
            return ()
        samples = self._of[self._images[row]]
        own = RowsByName([one.audio for one in samples]).find(pair.audio)
        if own is not None:
            return samples[own].boxes
        # Most annotations are of pictures, with one sound: where they are, whatever it is called.
        marked = [one for one in samples if one.boxes]
        for other in marked[1:]:
            if set(other.boxes) != set(marked[0].boxes):
                raise UserError(
                    f"{self._path} has other boxes in {pair.image} for {marked[0].audio} than for "
                    f"{other.audio}, and none for {pair.audio}, which the pairs say sounds: add "
                    "its boxes, or name it as one of them"
                )
        return marked[0].boxes if marked else ()


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
