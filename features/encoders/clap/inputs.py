"""From a sound file or a sentence to what CLAP embeds; no torch.

CLAP hears ten seconds. The published code draws a random ten of a longer sound, so that one
file embeds differently at every call; here the choice is fixed:

    centre  the middle ten seconds
    tiled   ten seconds after ten seconds, the last ones aligned to the sound's end; where that
            makes more than `max_windows`, so many, spread evenly from the start to the end
    fused   for models with feature fusion, which see the whole sound beside three parts of it:
            all of it, or the middle `max_windows` times ten seconds where it is longer

A rest of a millisecond, such as resampling may add, makes no window of its own. A sound of ten
seconds or less is one window, as long as the sound: the network repeats and pads it, as the
published code does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.encoders.spec import Argument
from features.errors import ItemError, UserError
from features.extraction.decode import read_audio_parts, read_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOWS = ("centre", "tiled", "fused")
MAX_WINDOWS = 30
REST_SECONDS = 0.001
PEAK = 32767.0


@dataclass(frozen=True)
class AudioInput:
    """Turns a sound file into its windows (w, samples); picklable, for worker processes.

    window: samples that the network hears. quantised: int16, as LAION's code rounds every
    sound (x 32767, towards zero), else float32 in [-1, 1].
    """

    sample_rate: int
    window: int
    windows: str
    max_windows: int
    quantised: bool

    def __call__(self, item: str | Path) -> NDArray[np.int16] | NDArray[np.float32]:
        """The windows of one file. Raises ItemError if it cannot be read."""
        parts = np.stack(read_audio_parts(Path(item), self.sample_rate, self.spans))
        return quantise(parts) if self.quantised else parts

    def spans(self, length: int) -> list[tuple[int, int]]:
        """First and one past the last sample of each window of a sound of `length` samples."""
        width = self.window * (self.max_windows if self.windows == "fused" else 1)
        last, rest = length - width, round(REST_SECONDS * self.sample_rate)
        if last <= rest:
            return [(0, min(length, width))]
        count = -(-(length - rest) // width) if self.windows == "tiled" else 1
        if count == 1 or self.max_windows == 1:
            starts = [last // 2]
        elif count <= self.max_windows:
            starts = [min(i * width, last) for i in range(count)]
        else:
            starts = [round(i * last / (self.max_windows - 1)) for i in range(self.max_windows)]
        return [(start, start + width) for start in starts]


@dataclass(frozen=True)
class TextInput:
    """Turns a sentence, or a path to one, into an array () of str; picklable."""

    def __call__(self, item: str | Path) -> NDArray[np.str_]:
        """The sentence. Raises ItemError if it is empty or cannot be read."""
        text = read_text(item) if isinstance(item, Path) else item
        if not text.strip():
            raise ItemError("the text is empty")
        return np.array(text)


def quantise(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples as 16-bit integers, clipped to [-1, 1] and rounded towards zero."""
    return (np.clip(samples, -1, 1) * np.float32(PEAK)).astype(np.int16)


def dequantise(samples: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples as float32 in [-1, 1]."""
    if samples.dtype == np.int16:
        return np.asarray(samples / PEAK, dtype=np.float32)
    return np.asarray(samples, dtype=np.float32)


def fill_window(samples: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """A short sound, repeated as often as it fits, then padded with zeros ("repeatpad")."""
    if len(samples) >= window:
        return samples
    repeated = np.tile(samples, window // len(samples))
    return np.pad(repeated, (0, window - len(repeated)))


def choose_windows(argument: Argument, *, fused: bool) -> tuple[str, int]:
    """What `windows=` and `max_windows=` say: by default fused if the model is, else centre.

    Raises UserError for a choice that the model does not have, or that would change nothing.
    """
    windows = argument.option("windows", "fused" if fused else "centre", WINDOWS)
    if windows == "fused" and not fused:
        raise UserError(
            "windows=fused needs a model with feature fusion, and this one has none: use "
            "windows=centre or windows=tiled"
        )
    given = argument.options.get("max_windows", str(MAX_WINDOWS))
    if not (given.isdecimal() and int(given) > 0):
        raise UserError(f"max_windows={given} is not a number of windows: use 1, 2, ...")
    if windows == "centre" and "max_windows" in argument.options:
        raise UserError(
            f"max_windows={given} changes nothing with windows=centre, which is one window: add "
            "windows=tiled, or leave max_windows out"
        )
    return windows, int(given)
