"""VGG-SS, `vggss.json` of hche11/Localizing-Visual-Sounds-the-Hard-Way (CVPR 2021).

A list of objects: `file`, the name of a frame and of a sound; `class`, one of VGGSound's; `bbox`, a
list of left, top, right, bottom in fractions. Some boxes have no area, and some reach beyond.
"""

from __future__ import annotations

from pathlib import Path

from features.datasets.annotations import (
    Annotations,
    Boxes,
    Sample,
    read_json,
    require_fields,
    unique,
)
from features.errors import UserError

FIELDS = ("file", "class", "bbox")


def read_vggss(path: Path) -> Annotations:
    """The samples of `vggss.json`; see `features.datasets.read_annotations`."""
    entries, fingerprint = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path} is not a list of objects, as vggss.json is: check --dataset")
    boxes = Boxes(path)
    samples = []
    for number, found in enumerate(entries, start=1):
        entry = require_fields(found, FIELDS, f"entry {number} of {path}")
        name = str(entry["file"])
        kept = boxes.checked(entry["bbox"], name)
        samples.append(Sample(name, name, name, str(entry["class"]), kept))
    samples = unique(samples, path)
    classes = sorted({str(sample.label) for sample in samples})
    return Annotations(path, "vggss", samples, fingerprint, classes=classes, notes=boxes.notes())
