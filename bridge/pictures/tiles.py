"""One item as a small picture: a thumbnail, a spectrogram, a view of a cloud, or its words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from bridge.pictures.canvas import Style, wrapped
from features.errors import ItemError
from features.extraction.decode import read_audio_parts, read_image, read_points, read_text
from features.space import Modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

SPECTROGRAM_RATE = 16_000  # hertz at most, so that it reaches to 8 kHz
SECONDS = 10  # of a sound that are drawn
THUMBNAIL = 256  # pixels of the longer side
MARGIN, LINE = 0.08, 1.25  # of words: inches, and lines in heights of letters
_WINDOW, _STEP = 512, 128  # samples
_RANGE = 60  # decibels below the loudest
_FLAT = 0.35  # depth of a cloud, in its height or width, below which it is seen from the front
_TURN, _TILT = math.radians(35), math.radians(20)
_MARKS = 2048  # points of a cloud that are drawn


@dataclass(frozen=True)
class Tile:
    """One item of a contact sheet.

    value: a path, or, as a string, the sentence itself for text. right: whether it answers the
    query, None for the query or where it is not known. score: its cosine with the query.
    """

    modality: Modality
    value: str | Path
    caption: str
    right: bool | None = None
    score: float | None = None


@dataclass(frozen=True)
class Missing:
    """What is shown of an item whose file cannot be read."""

    words: str


@dataclass(frozen=True)
class Sound:
    """A spectrogram. decibels: below its loudest place, low frequencies first.

    rate: in hertz, of its samples. seconds: of what is drawn. whole: whether that is all of it.
    """

    decibels: Float[NDArray[Any], "f t"]
    rate: int
    seconds: float
    whole: bool


@dataclass(frozen=True)
class View:
    """A cloud seen from one side. depth: from 0, far, to 1, near."""

    places: Float[NDArray[Any], "n 2"]
    depth: Float[NDArray[Any], " n"]


Shown = str | Missing | Sound | View | Any  # Any: a Pillow image


def shown(tile: Tile) -> Shown:
    """What is drawn of an item; an item whose file is gone or damaged says so."""
    if isinstance(tile.value, str) and tile.modality == "text":
        return tile.value
    path = Path(tile.value)
    try:
        if not path.is_file():
            return Missing(f"{path.name}: the file is missing")
        if tile.modality == "text":
            return read_text(path)
        if tile.modality == "image":
            return thumbnail(read_image(path))
        if tile.modality == "audio":
            return spectrogram(path)
        return view(read_points(path, min_points=1))
    except ItemError as error:
        return Missing(f"{path.name}: {error}")


def thumbnail(image: Image.Image) -> Image.Image:
    """The picture in eight-bit colours, its longer side at most THUMBNAIL pixels."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small


def spectrogram(path: Path) -> Sound:
    """Decibels of the first SECONDS of a sound. Raises ItemError."""
    import soundfile

    try:
        rate = min(SPECTROGRAM_RATE, int(soundfile.info(path).samplerate))
    except (OSError, RuntimeError) as error:
        raise ItemError(f"cannot be decoded as a sound ({error})") from error
    lengths: list[int] = []

    def first(length: int) -> list[tuple[int, int]]:
        lengths.append(length)
        return [(0, min(length, SECONDS * rate))]

    samples = read_audio_parts(path, rate, first)[0]
    padded = np.pad(samples, (_WINDOW // 2, _WINDOW // 2 + _WINDOW))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[: len(samples) : _STEP]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), axis=1)).T ** 2
    loudest = max(float(power.max()), float(np.finfo(np.float32).tiny))
    decibels = 10 * np.log10(np.maximum(power / loudest, 10 ** (-_RANGE / 10)))
    return Sound(decibels, rate, len(samples) / rate, lengths[-1] == len(samples))


def view(points: Float[NDArray[Any], "n 3"]) -> View:
    """A cloud from the front if it is flat, else from a corner and above; y is up."""
    step = max(1, len(points) // _MARKS)
    xyz = np.asarray(points, dtype=np.float64)[::step, :3]
    xyz = xyz - (xyz.max(axis=0) + xyz.min(axis=0)) / 2
    extent = np.ptp(xyz, axis=0)
    if extent[2] > _FLAT * max(extent[0], extent[1]):
        xyz = xyz @ _turned().T
    depth = xyz[:, 2] - xyz[:, 2].min()
    return View(xyz[:, :2], depth / max(float(depth.max()), 1e-12))


def _turned() -> Float[NDArray[Any], "3 3"]:
    sine, cosine = math.sin(_TURN), math.cos(_TURN)
    around = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    sine, cosine = math.sin(_TILT), math.cos(_TILT)
    down = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return np.asarray(down @ around)


def draw(axis: Axes, item: Shown, style: Style, *, width: float, height: float) -> None:
    """Draw an item into an axis of `width` by `height` inches."""
    axis.set_xticks([])
    axis.set_yticks([])
    if isinstance(item, Sound):
        _draw_sound(axis, item, style)
    elif isinstance(item, View):
        _draw_view(axis, item, style, min(width, height))
    elif isinstance(item, str | Missing):
        _draw_words(axis, item, style, width, height)
    else:
        axis.imshow(np.asarray(item), interpolation="nearest")
        axis.set_anchor("N")


def _draw_sound(axis: Axes, sound: Sound, style: Style) -> None:
    axis.imshow(
        sound.decibels, origin="lower", aspect="auto", cmap="magma", vmin=-_RANGE, vmax=0,
        extent=(0, sound.seconds, 0, sound.rate / 2),
    )  # fmt: skip
    if not sound.whole:
        axis.text(
            0.97, 0.94, f"first {sound.seconds:.0f} s", transform=axis.transAxes, ha="right",
            va="top", fontsize=style.small * 0.85, color="white",
        )  # fmt: skip


def _draw_view(axis: Axes, cloud: View, style: Style, inches: float) -> None:
    order = cloud.depth.argsort(kind="stable")
    size = float(np.clip(inches * 72 / 2.2 / math.sqrt(len(cloud.places)), 0.9, 4)) ** 2
    fill = style.theme.fill["points"]
    shades = [(*_rgb(fill), 0.45 + 0.55 * near) for near in cloud.depth[order].tolist()]
    x, y = cloud.places[order].T
    axis.scatter(x, y, s=size, c=shades, linewidths=0, rasterized=True)
    axis.set_aspect("equal", adjustable="datalim")
    axis.margins(0.08)


def _draw_words(axis: Axes, item: str | Missing, style: Style, width: float, height: float) -> None:
    missing = isinstance(item, Missing)
    text = item.words if isinstance(item, Missing) else item
    size = style.small
    lines = max(1, int((height - MARGIN + 1e-6) / (LINE * size / 72)))
    axis.text(
        0.5, 0.5, wrapped(text, width - MARGIN, size, lines), ha="center", va="center",
        fontsize=size, style="italic" if missing else "normal", clip_on=True,
        color=style.theme.muted if missing else style.theme.ink,
    ).set_in_layout(False)  # fmt: skip
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)


def words_lines(text: str, width: float, style: Style) -> int:
    """How many lines a sentence takes in a tile."""
    return 1 + wrapped(text, width - MARGIN, style.small).count("\n")


def lines_height(lines: int, style: Style) -> float:
    """How high a tile must be for so many lines, in inches."""
    return lines * LINE * style.small / 72 + MARGIN


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
