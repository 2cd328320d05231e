"""Keypad numbers: numbers of one to three digits as picture, sound, point cloud and text.

A made-up world that is small enough for a laptop and hard enough to mean something: the
1,110 numbers 0-9, 00-99 and 000-999 are drawn in handwriting (scikit-learn's bundled
digits, a fresh sample for every digit), dialled as the DTMF tones of a telephone keypad,
set in space as point clouds of their strokes, and said in sentences. Numbers are split
into training numbers and test numbers that nothing is ever trained on; test pictures also
use handwriting that no training picture shows.

Every maker takes a `numpy.random.Generator`; the same generator state gives the same item.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from features.errors import UserError

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

Split = Literal["train", "test"]

IMAGE_HEIGHT, IMAGE_WIDTH = 32, 64
SAMPLE_RATE = 8000  # hertz
POINTS = 256
TEST_NUMBERS = {1: 0, 2: 20, 3: 200}  # held out, by number of digits

_ROWS = (697.0, 770.0, 852.0, 941.0)  # hertz, ITU-T Q.23
_COLUMNS = (1209.0, 1336.0, 1477.0)
_KEYS = ("123", "456", "789", "*0#")
_TONES = {
    key: (_ROWS[row], _COLUMNS[column])
    for row, keys in enumerate(_KEYS)
    for column, key in enumerate(keys)
}
_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = [
    "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
TEMPLATES = (
    "{}",
    "the number {}",
    "this is {}",
    "it says {}",
    "number {} please",
    "an example of {}",
)


def numbers(split: Split | None = None) -> list[str]:
    """The 1,110 numbers as digit strings, or those of one split."""
    return [
        number
        for digits in (1, 2, 3)
        for number in (f"{value:0{digits}d}" for value in range(10**digits))
        if split is None or (number in _test_numbers()) == (split == "test")
    ]


@cache
def _test_numbers() -> frozenset[str]:
    rng = np.random.default_rng(407)
    return frozenset(
        f"{value:0{digits}d}"
        for digits, count in TEST_NUMBERS.items()
        for value in rng.choice(10**digits, size=count, replace=False)
    )


def spoken(number: str) -> str:
    """How the number is read: "four hundred seven", "zero zero seven"."""
    if len(number) > 1 and number[0] == "0":
        return " ".join(_UNITS[int(digit)] for digit in number)
    value = int(number)
    if value >= 100:
        hundreds = f"{_UNITS[value // 100]} hundred"
        return hundreds if value % 100 == 0 else f"{hundreds} {spoken(str(value % 100))}"
    if value >= 20:
        tens = _TENS[value // 10]
        return tens if value % 10 == 0 else f"{tens} {_UNITS[value % 10]}"
    return _TEENS[value - 10] if value >= 10 else _UNITS[value]


def sentences(number: str) -> list[str]:
    """Every sentence that says `number`: each template with its digits and its words."""
    return [template.format(form) for form in (number, spoken(number)) for template in TEMPLATES]


def image(number: str, split: Split, rng: Generator) -> NDArray[np.uint8]:
    """A handwritten picture (32, 64), white on black."""
    from PIL import Image

    canvas = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), dtype=np.float32)
    pitch = 19.0
    left = IMAGE_WIDTH / 2 - pitch * (len(number) - 1) / 2 + rng.uniform(-3, 3)
    for place, digit in enumerate(number):
        size = int(rng.integers(15, 19))
        glyph = Image.fromarray((_handwriting(digit, split, rng) * 15.9).astype(np.uint8))
        glyph = glyph.resize((size, size), Image.Resampling.BICUBIC)
        glyph = glyph.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR)
        top = round(IMAGE_HEIGHT / 2 - size / 2 + rng.uniform(-4, 4))
        start = round(left + pitch * place - size / 2 + rng.uniform(-1.5, 1.5))
        start = min(max(start, 0), IMAGE_WIDTH - size)
        window = canvas[top : top + size, start : start + size]
        np.maximum(window, np.asarray(glyph, dtype=np.float32), out=window)
    noisy = canvas * rng.uniform(0.7, 1.0) + rng.normal(0, 6, canvas.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def sound(number: str, rng: Generator) -> NDArray[np.float32]:
    """The number dialled on a keypad: samples in [-1, 1] at 8 kHz, 0.2 to 0.9 seconds."""
    pieces = [np.zeros(_samples(rng.uniform(0.01, 0.12)))]
    for digit in number:
        low, high = _TONES[digit]
        time = np.arange(_samples(rng.uniform(0.06, 0.13))) / SAMPLE_RATE
        tone = np.zeros(len(time))
        for hertz in (low, high):
            phase = rng.uniform(0, 2 * np.pi)
            tone += rng.uniform(0.6, 1.0) * np.sin(2 * np.pi * hertz * time + phase)
        pieces += [tone, np.zeros(_samples(rng.uniform(0.04, 0.1)))]
    samples = np.concatenate(pieces)
    samples = samples + rng.normal(0, rng.uniform(0.02, 0.4), samples.shape)
    gain = rng.uniform(0.1, 0.9) / np.abs(samples).max()
    return np.asarray(samples * gain, dtype=np.float32)


def points(number: str, split: Split, rng: Generator) -> NDArray[np.float32]:
    """The digits' strokes in space: (256, 3), jittered and rotated a little."""
    counts = rng.multinomial(POINTS, np.full(len(number), 1 / len(number)))
    clouds = []
    for place, (digit, count) in enumerate(zip(number, counts, strict=True)):
        ink = _handwriting(digit, split, rng).astype(np.float64)
        pixel = rng.choice(64, size=count, p=(ink / ink.sum()).ravel())
        row, column = np.divmod(pixel, 8)
        flat = np.stack([column - 3.5, 3.5 - row], axis=1) + rng.uniform(-0.5, 0.5, (count, 2))
        x = flat[:, 0] + 9.0 * (place - (len(number) - 1) / 2)
        clouds.append(np.stack([x, flat[:, 1], rng.uniform(-1, 1, count)], axis=1))
    cloud = np.concatenate(clouds) + rng.normal(0, 0.15, (POINTS, 3))
    turned = cloud @ _small_rotation(rng).T
    return np.asarray(turned * rng.uniform(0.8, 1.2), dtype=np.float32)


def _small_rotation(rng: Generator) -> NDArray[np.float64]:
    about_x, about_y, about_z = rng.uniform(-0.25, 0.25, 3)  # radians
    cx, sx, cy, sy = np.cos(about_x), np.sin(about_x), np.cos(about_y), np.sin(about_y)
    cz, sz = np.cos(about_z), np.sin(about_z)
    x_turn = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]], dtype=np.float64)
    y_turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=np.float64)
    z_turn = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]], dtype=np.float64)
    return np.asarray(x_turn @ y_turn @ z_turn, dtype=np.float64)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _handwriting(digit: str, split: Split, rng: Generator) -> NDArray[np.float64]:
    """An 8 x 8 sample of `digit`, ink from 0 to 16, that only this split shows."""
    pool = _handwriting_pool()[digit, split]
    return np.asarray(pool[int(rng.integers(len(pool)))])


@cache
def _handwriting_pool() -> dict[tuple[str, Split], NDArray[np.float64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "keypad numbers are drawn from scikit-learn's handwritten digits, which is not "
            'installed: pip install "mcr-bridge[demo]"'
        ) from error
    digits = load_digits()
    is_test = np.arange(len(digits.target)) % 4 == 0
    pool: dict[tuple[str, Split], NDArray[np.float64]] = {}
    for digit in range(10):
        mine = digits.target == digit
        pool[str(digit), "train"] = digits.images[mine & ~is_test]
        pool[str(digit), "test"] = digits.images[mine & is_test]
    return pool
