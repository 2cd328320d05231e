"""From a file to an array: text, images and sounds, without torch; clouds in features.clouds.

Every reader returns one item or raises ItemError with the reason. Decoding runs in worker
processes, which start in milliseconds because nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.clouds import SUFFIXES as CLOUD_SUFFIXES
from features.clouds import read_cloud, read_points
from features.errors import ItemError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from soundfile import SoundFile

    from features.space import Modality

__all__ = [
    "SUFFIXES",
    "read_audio",
    "read_audio_parts",
    "read_cloud",
    "read_image",
    "read_points",
    "read_text",
]

SUFFIXES: dict[Modality, tuple[str, ...]] = {
    "text": (".txt",),
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif", ".au"),
    "points": CLOUD_SUFFIXES,
}
MIN_SAMPLES = 2
MARGIN_SECONDS = 0.1  # around a part of a sound, for the resampler
MAX_FRAMES = 1 << 53  # headers that do not know the length say more, or nothing


def read_text(path: Path) -> str:
    """The whole file as one text, surrounding white space removed. Raises ItemError."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ItemError(f"cannot be read as UTF-8 text ({error})") from error
    if not text:
        raise ItemError("the text is empty")
    return text


def read_image(path: Path, *, formats: tuple[str, ...] | None = None) -> Image.Image:
    """The decoded image, EXIF orientation applied. Raises ItemError.

    formats: of Pillow's, the only ones that are tried; all if None.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=formats) as image:
            image.load()
            return _eight_bit(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ItemError(f"cannot be decoded as an image ({_oneline(error)})") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey pictures of 16 bits as 8 bits; Pillow's own conversion would clip them to white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def read_audio(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """Mono samples in [-1, 1] at `sample_rate` hertz, channels averaged. Raises ItemError.

    Resampling is soxr's high quality setting.
    """
    return _resampled(*_read_frames(path), sample_rate)


def read_audio_parts(
    path: Path, sample_rate: int, choose: Callable[[int], Sequence[tuple[int, int]]]
) -> list[NDArray[np.float32]]:
    """Parts of a sound as `read_audio` gives them, without decoding the rest of the file.

    choose: from the sound's length in samples at `sample_rate`, rounded up, the (start, stop) of
    each part; it is asked again if the file turns out to be shorter than its header says.
    A part that the resampler leaves a sample short ends in a zero. Raises ItemError.
    """
    parts = _seek_parts(path, sample_rate, choose)
    if parts is not None:
        return parts
    frames, rate = _read_frames(path)
    length = _length_at(len(frames), rate, sample_rate)
    whole = _cut(frames, rate, sample_rate, 0, length)
    return [whole[start:stop] for start, stop in choose(length)]


def _read_frames(path: Path) -> tuple[NDArray[np.float32], int]:
    """All frames (n, channels) of a file, and their rate."""
    import soundfile

    try:
        frames, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:  # or claims too many frames
        raise ItemError(f"cannot be decoded as a sound ({_oneline(error)})") from error
    return frames, rate


def _seek_parts(
    path: Path, sample_rate: int, choose: Callable[[int], Sequence[tuple[int, int]]]
) -> list[NDArray[np.float32]] | None:
    """The parts, or None if the file is not as its header says or does not let itself be sought."""
    import soundfile

    parts = []
    try:
        with soundfile.SoundFile(path) as file:
            if not 0 < file.frames < MAX_FRAMES:
                return None
            for span in choose(_length_at(file.frames, file.samplerate, sample_rate)):
                frames, skip = _read_span(file, span, sample_rate)
                parts.append(_cut(frames, file.samplerate, sample_rate, skip, span[1] - span[0]))
    except (OSError, RuntimeError):
        return None
    return parts


def _length_at(frames: int, rate: int, sample_rate: int) -> int:
    """Samples of a resampled sound, by the formula of librosa.resample."""
    return int(np.ceil(frames * (sample_rate / rate)))


def _read_span(
    file: SoundFile, span: tuple[int, int], sample_rate: int
) -> tuple[NDArray[np.float32], int]:
    """The frames of a span with MARGIN_SECONDS around it, and how many samples come before it.

    The margin lets the resampler's filter see the sound on both sides. The frames begin where
    a frame and a sample coincide: between two samples, the part would be resampled at other
    moments than the whole. Raises OSError if the file ends before the span does.
    """
    rate = file.samplerate
    margin = round(MARGIN_SECONDS * rate)
    together = rate // gcd(rate, sample_rate)  # frames from one such place to the next
    start = max(0, span[0] * rate // sample_rate - margin) // together * together
    last = min(file.frames, -(-span[1] * rate // sample_rate))
    stop = min(file.frames, last + margin)
    file.seek(start)
    samples = file.read(stop - start, dtype="float32", always_2d=True)
    if len(samples) < stop - start:
        raise OSError("the file ends before its header says")
    return samples, span[0] - start * sample_rate // rate


def _cut(
    samples: NDArray[np.float32], rate: int, sample_rate: int, skip: int, length: int
) -> NDArray[np.float32]:
    """Resample, drop the first `skip` samples, and give exactly `length` of the rest."""
    mono = _resampled(samples, rate, sample_rate)[skip : skip + length]
    return np.pad(mono, (0, length - len(mono)))


def _resampled(samples: NDArray[np.float32], rate: int, sample_rate: int) -> NDArray[np.float32]:
    """Frames (n, channels) at `rate` as mono samples at `sample_rate`. Raises ItemError."""
    import soxr

    if len(samples) < MIN_SAMPLES:
        raise ItemError(
            f"the sound has {len(samples)} sample{'s' * (len(samples) != 1)}, "
            f"needs at least {MIN_SAMPLES}"
        )
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise ItemError("the sound has samples that are NaN or infinite")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
        if not len(mono):
            raise ItemError(f"the sound is shorter than one sample at {sample_rate} Hz")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _oneline(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
