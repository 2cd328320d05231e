"""Annotation files of public data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from features.datasets import read_annotations
from features.datasets.pairs import read_pairs
from tests.features.datasets import layouts
from tests.fuzz.target import Target

_BOXES = "image,left,top,right,bottom,label\na.png,0,0,0.5,0.5,x\na.png,0.5,0.5,1,1,x\nb.png,,,,,\n"
_BOX_LINES = (
    '{"image": "a", "left": 0, "top": 0, "right": 0.5, "bottom": 1}\n'
    '{"image": "b", "left": null, "top": null, "right": null, "bottom": null}\n'
)


def _target(name: str, file: str, *seeds: object, form: str) -> Target:
    dataset = name.partition("/")[0]

    def read(path: Path) -> object:
        found = read_annotations(dataset, path.parent if file.endswith(".xml") else path)
        return [(one.id, one.label, one.boxes) for one in found.samples], found.has_boxes

    def made(_: Path) -> Iterable[bytes]:
        return [(s if isinstance(s, str) else json.dumps(s)).encode() for s in seeds]

    return Target(f"annotations-{name.replace('/', '-')}", file, read, made, form=form, weight=2)


def _extended(_: Path) -> Iterable[bytes]:
    return [layouts.EXTENDED.encode()]


_pairs: Callable[[Path], object] = read_pairs
TARGETS = (
    _target("vggss", "a.json", layouts.VGGSS, form="json"),
    _target("music-solo", "a.json", layouts.MUSIC, form="json"),
    _target("flickr-soundnet", "a.xml", layouts.flickr((1, 2, 30, 40), (5, 5, 9, 9)), form="text"),
    _target("ave", "a.txt", layouts.AVE, form="text"),
    _target("esc50", "a.csv", layouts.ESC50, form="text"),
    _target("modelnet40", "a.txt", layouts.MODELNET40, form="text"),
    _target("boxes", "a.csv", _BOXES, form="text"),
    _target("boxes/jsonl", "a.jsonl", _BOX_LINES, form="lines"),
    Target("annotations-pairs", "a.csv", _pairs, _extended, form="text"),
)
