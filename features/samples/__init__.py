"""A few known things of every modality, for `mcr doctor`: each with a sentence that fits it alone.

The photographs are free of rights (CC0 or public domain), the speech is a synthesiser's, the
rest is made by `features.samples.make`; see README.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.space import Modality

FOLDER = Path(__file__).parent
Samples = dict["Modality", list[tuple[Path, str]]]  # files, each with its sentence

_REAL: dict[Modality, list[tuple[str, str]]] = {
    "image": [
        ("cat.jpg", "a photo of a cat"),
        ("coffee.jpg", "a photo of a cup of coffee"),
        ("rocket.jpg", "a photo of a rocket launch"),
    ],
    "audio": [
        ("speech.ogg", "a person speaking"),
        ("beeps.ogg", "an electronic device beeping"),
        ("noise.ogg", "white noise"),
    ],
    "points": [
        ("chair.npz", "a point cloud of a chair"),
        ("airplane.npz", "a point cloud of an airplane"),
        ("bottle.npz", "a point cloud of a bottle"),
    ],
}


_NUMBERS = ("566", "435", "821")  # of the numbers that the mini encoders have not seen
_NUMBER_SUFFIX: dict[Modality, str] = {"image": "png", "audio": "flac", "points": "npz"}


def number_samples() -> Samples:
    """Keypad numbers for the mini encoders, which know nothing else."""
    return {
        modality: [(FOLDER / "numbers" / f"{one}.{suffix}", one) for one in _NUMBERS]
        for modality, suffix in _NUMBER_SUFFIX.items()
    }


def real_samples() -> Samples:
    """Photographs, sounds and shapes for models of the real world."""
    return {
        modality: [(FOLDER / name, sentence) for name, sentence in pairs]
        for modality, pairs in _REAL.items()
    }
