"""Extended VGG-SS and Extended Flickr-SoundNet: which picture and sound make a sample (SLAVC).

`vggss_test_plus_silent.csv` and `flickr_test_plus_silent.csv` that stoneMo/SLAVC links to: lines of
a picture's name, a sound's, and `sounding` or `non-sounding`; the first may be a header.
Where what is heard is not seen, the names differ.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from features.datasets.annotations import read_lines
from features.errors import UserError

_KINDS = {"sounding": True, "non-sounding": False}


@dataclass(frozen=True)
class Pair:
    """A picture and a sound, and whether the source of the sound is seen."""

    image: str
    audio: str
    sounding: bool


def read_pairs(path: Path) -> tuple[list[Pair], str]:
    """The samples of an extended set, and the file's hash.

    Raises UserError for another layout, a kind that is not known, or a sample that repeats.
    """
    lines, fingerprint = read_lines(path)
    pairs: dict[tuple[str, str], Pair] = {}
    for place, (number, line) in enumerate(lines):
        values = [value.strip() for value in next(csv.reader([line]))]
        if len(values) != 3:
            raise UserError(
                f"line {number} of {path} has {len(values)} fields, not picture, sound and "
                "sounding or non-sounding: give the extended set's file"
            )
        image, audio, kind = values
        if kind not in _KINDS:
            if place == 0:
                continue
            raise UserError(
                f"line {number} of {path} is '{kind}', neither sounding nor non-sounding: give the "
                "extended set's file"
            )
        pair = Pair(image, audio, _KINDS[kind])
        known = pairs.setdefault((image, audio), pair)
        if known.sounding != pair.sounding:
            raise UserError(
                f"line {number} of {path} says that {image} with {audio} is {kind}, a line before "
                "it the opposite: keep one of them"
            )
        if known is not pair:
            raise UserError(f"line {number} of {path} repeats {image} and {audio}: remove it")
    if not pairs:
        raise UserError(f"{path} has a header alone: download it again")
    return list(pairs.values()), fingerprint
