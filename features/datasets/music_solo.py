"""MUSIC-Solo, `solotest.json` of DTaoo/Discriminative-Sounding-Objects-Localization (NeurIPS 2020).

An object of frames, `VIDEO/frame_SECOND/NUMBER.jpg`, each with `bbox`, `wdith` (as they spell it)
and `height`; a box has `box` in pixels and `normbox` in fractions, both left, top, width, height,
and `category_id`. The sound of a frame is its second of the video, `VIDEO/SECOND`, as their code
cuts it. Frames in which nobody is seen have no box.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.datasets.annotations import (
    Annotations,
    Boxes,
    Sample,
    four_numbers,
    read_json,
    require_fields,
    require_list,
    unique,
)
from features.errors import UserError

# Those that are annotated, as the evaluation of the authors names them.
CATEGORIES = {
    1: "cello", 3: "acoustic guitar", 8: "saxophone", 10: "trumpet", 11: "violin", 12: "flute",
    13: "accordion",
}  # fmt: skip
_FOLDER = "frame_"


def read_music_solo(path: Path) -> Annotations:
    """The samples of `solotest.json`; see `features.datasets.read_annotations`."""
    frames, fingerprint = read_json(path)
    if not isinstance(frames, dict):
        raise UserError(f"{path} is not an object of frames, as solotest.json is: check --dataset")
    boxes = Boxes(path)
    samples = []
    for name, found in frames.items():
        where = f"{name} in {path}"
        entry = require_fields(found, ("bbox", "wdith", "height"), where)
        marked = [
            require_fields(box, ("box", "normbox", "category_id"), f"a box of {where}")
            for box in require_list(entry["bbox"], f"the boxes of {where}", "of boxes")
        ]
        kept = boxes.checked([_edges(box["normbox"], where) for box in marked], name)
        samples.append(
            Sample(
                name, name, _sound(name, path), _label(marked, where), kept, name.partition("/")[0]
            )
        )
    return Annotations(path, "music-solo", unique(samples, path), fingerprint, notes=boxes.notes())


def _edges(box: Any, where: str) -> list[float]:
    numbers = four_numbers(box)
    if numbers is None:
        raise UserError(
            f"a normbox of {where} is {json.dumps(box)}, not the four numbers left, top, width, "
            "height: mend or remove it"
        )
    left, top, width, height = numbers
    return [left, top, left + width, top + height]


def _sound(frame: str, path: Path) -> str:
    video, _, rest = frame.partition("/")
    second = rest.partition("/")[0]
    if not second.startswith(_FOLDER):
        raise UserError(
            f"{frame} in {path} does not read VIDEO/frame_SECOND/NUMBER.jpg, as solotest.json "
            "does: check --dataset"
        )
    return f"{video}/{second.removeprefix(_FOLDER)}"


def _label(boxes: Sequence[Mapping[str, Any]], where: str) -> str | None:
    known: set[int] = set()
    for box in boxes:
        number = box["category_id"]
        if not isinstance(number, int):
            raise UserError(
                f"a category_id of {where} is {json.dumps(number)}, not the number of a class: "
                "mend it"
            )
        known.add(number)
    number = next(iter(known)) if len(known) == 1 else None
    return CATEGORIES.get(number, f"category {number}") if number is not None else None
