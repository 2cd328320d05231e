"""What an annotation file says: samples with their files, classes and boxes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from features.errors import UserError
from features.files import require_file
from features.parsing import parse_json

Box = tuple[float, float, float, float]
_FAR = 2.0  # widths and heights of the picture, beyond what hands that mark boxes overshoot


@dataclass(frozen=True)
class Sample:
    """One annotated thing.

    image, audio: names of its files, without their folders' beginning and with or without suffix;
    for a shape or a sentence, `image` is its name. label: its class, if it has one.
    boxes: left, top, right, bottom in fractions of the picture, each with an area.
    group: samples of one recording, which are not independent of one another.
    """

    id: str
    image: str
    audio: str
    label: str | None = None
    boxes: Sequence[Box] = ()
    group: str | None = None


@dataclass(frozen=True)
class Annotations:
    """The samples of a file, each id once.

    agreed: how many boxes make a place certain; see `bridge.metrics.maps.truth_map`.
    classes: all classes there are, also those without a sample; empty if there are none.
    notes: what was merged, cut or left out, one sentence each, to be shown to the user.
    fingerprint: hash of the content.
    """

    path: Path
    dataset: str
    samples: Sequence[Sample]
    fingerprint: str
    agreed: int = 1
    classes: Sequence[str] = ()
    notes: Sequence[str] = field(default=())

    @property
    def has_boxes(self) -> bool:
        """Whether the data set says where things are."""
        return any(sample.boxes for sample in self.samples)


class Boxes:
    """Checks boxes as they are read, and counts what was done to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: Counter[str] = Counter()

    def checked(self, boxes: Any, sample: str) -> list[Box]:
        """The boxes of a sample, cut to the picture; those without an area are left out.

        boxes: as the file has them, which may be anything. Raises UserError for what is no list of
        boxes, and for a box that has not four finite edges, is turned around, lies outside of the
        picture, or reaches as far beyond it to the right and below as boxes in pixels do.
        """
        kept = []
        require_list(boxes, f"the boxes of {sample} in {self.path}", "of boxes")
        for edges in boxes:
            left, top, right, bottom = self._edges(edges, sample)
            outside = left > 1 or top > 1 or right < 0 or bottom < 0
            if outside or min(right, bottom) > _FAR:
                where = "lies outside of" if outside else "reaches far beyond"
                raise UserError(
                    f"{self.path}: the box {_told(edges)} of {sample} {where} the picture, whose "
                    "edges are 0 and 1: divide pixels by its width and height"
                )
            box = (max(left, 0.0), max(top, 0.0), min(right, 1.0), min(bottom, 1.0))
            if box[0] == box[2] or box[1] == box[3]:
                self.done["empty"] += 1
                continue
            self.done["cut"] += box != (left, top, right, bottom)
            kept.append(box)
        return kept

    def _edges(self, edges: Any, sample: str) -> Box:
        numbers = four_numbers(edges)
        if numbers is None:
            raise UserError(
                f"{self.path}: the box {_told(edges)} of {sample} is not four finite numbers: mend "
                "or remove it"
            )
        left, top, right, bottom = numbers
        if right < left or bottom < top:
            raise UserError(
                f"{self.path}: the box {_told(edges)} of {sample} ends before it begins: give "
                "left, top, right, bottom"
            )
        return left, top, right, bottom

    def notes(self) -> list[str]:
        """What was done, for the user."""
        told = {
            "cut": "boxes that reach beyond the picture, cut to it",
            "empty": "boxes without an area, left out",
        }
        return [
            f"{what} ({self.path}): {self.done[key]}"
            for key, what in told.items()
            if self.done[key]
        ]


def require_fields(
    entry: Any, fields: Collection[str], where: str, optional: Collection[str] = ()
) -> Mapping[str, Any]:
    """`entry` if it is a JSON object of these fields alone. Raises UserError that names them."""
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not an object of {', '.join(fields)}: check --dataset")
    unknown = [name for name in entry if name not in fields and name not in optional]
    missing = [name for name in fields if name not in entry]
    if unknown or missing:
        wrong = " and ".join(
            f"{what} {', '.join(names)}"
            for what, names in (("has the unknown field", unknown), ("lacks", missing))
            if names
        )
        raise UserError(
            f"{where} {wrong}; its layout has {', '.join(fields)}: check --dataset and "
            "the file's version"
        )
    return entry


def require_list(entry: Any, where: str, what: str) -> Sequence[Any]:
    """`entry` if it is a list. Raises UserError that says what it is and should hold."""
    if not isinstance(entry, list | tuple):
        raise UserError(f"{where} are {_told(entry)}, not a list {what}: mend or remove them")
    return entry


def four_numbers(edges: Any) -> Box | None:
    """The edges as floats if they are four finite numbers, else None."""
    if not isinstance(edges, list | tuple) or len(edges) != 4 or not all(map(_is_finite, edges)):
        return None
    first, second, third, fourth = map(float, edges)
    return first, second, third, fourth


def _is_finite(edge: Any) -> bool:
    # The comparison is exact for integers, also for those that no float can hold.
    is_number = isinstance(edge, int | float) and not isinstance(edge, bool)
    return is_number and abs(edge) <= sys.float_info.max


def require_columns(names: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    """Raise UserError unless a table has exactly the wanted columns, in any order."""
    require_fields(dict.fromkeys(names), wanted, f"the header of {path}")


def read_json(path: Path) -> tuple[Any, str]:
    """The content of a JSON file and its hash. Raises UserError if it cannot be read."""
    content = require_file(path, "annotation file").read_bytes()
    try:
        return parse_json(content), digest(content)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): download it again") from error


def read_lines(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Lines that are not empty, with their numbers, and the file's hash. Raises UserError."""
    content = require_file(path, "annotation file").read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): download it again") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    kept = [(number, line) for number, line in lines if line]
    if not kept:
        raise UserError(f"{path} has no line that is not empty: download it again")
    return kept, digest(content)


def digest(content: bytes) -> str:
    """Hash of a file's content."""
    return xxhash.xxh3_128_hexdigest(content)


def unique(samples: Iterable[Sample], path: Path) -> list[Sample]:
    """The samples. Raises UserError if there are none, or an id appears twice."""
    first: dict[str, Sample] = {}
    for sample in samples:
        if sample.id in first:
            raise UserError(f"{path} has {sample.id} twice: keep one of them")
        first[sample.id] = sample
    if not first:
        raise UserError(f"{path} has no samples: check the path")
    return list(first.values())


def _told(edges: Any) -> str:
    if isinstance(edges, list | tuple):
        return f"[{', '.join(map(_told, edges))}]"
    return "null" if edges is None else str(edges)
