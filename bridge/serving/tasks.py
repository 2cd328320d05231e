"""What is made of files: what an encoder takes, and what a page shows.

Every task checks what a file's header claims before it decodes. Tasks of queries give a plain file
of our own making, in which nothing can hide from the encoder that reads it next. What came from
outside is refused where it is larger than the limits; of an item's own file, a part is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

import numpy as np

from bridge.serving.limits import MAX_SAMPLE_RATE, Limits
from bridge.serving.refusal import TOO_LARGE, UNPROCESSABLE, UNSUPPORTED, Refusal
from features.clouds import read_cloud
from features.errors import ItemError
from features.extraction.decode import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from soundfile import SoundFile

PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_SERVED_PICTURES = (*PICTURES, "TIFF")  # of a memory's own, for thumbnails
SOUNDS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF")
THUMBNAIL = 320  # pixels of the longer side
PEAKS, SHOWN_POINTS = 400, 2048
_POINT_BYTES = 64  # of an archive's arrays, for every point it may have
_CHANNELS = 32
_BLOCK = 1 << 16  # frames
# Of a memory's own files, for what a page shows: longer and larger ones than are asked by.
_SERVED_SECONDS = 3600.0
_SERVED_PIXELS = 178_000_000  # what Pillow takes, and fits into a decoder's memory
_SERVED_POINTS = 10_000_000


@dataclass(frozen=True)
class Made:
    """What a task made of a file. note: what of the file was left out, in words."""

    content: bytes
    note: str | None = None


def query_image(path: Path, limits: Limits) -> Made:
    """A picture as PNG, upright."""
    return Made(_png(_picture(path, limits.image_pixels, PICTURES)))


def item_image(path: Path, limits: Limits) -> Made:
    """As `query_image`, also of TIFF; a larger one is made smaller."""
    picture = _picture(path, _SERVED_PIXELS, _SERVED_PICTURES)
    width, height = picture.size
    if width * height <= limits.image_pixels:
        return Made(_png(picture))
    scale = math.sqrt(limits.image_pixels / (width * height))
    narrow = min(limits.image_pixels, max(1, int(width * scale)))
    low = min(limits.image_pixels // narrow, max(1, int(height * scale)))
    note = f"embedded at {narrow} x {low} pixels, of {width} x {height}"
    return Made(_png(_resizable(picture).resize((narrow, low), reducing_gap=2.0)), note)


def query_audio(path: Path, limits: Limits) -> Made:
    """A sound as WAV of one channel, at its own rate."""
    with _sound(path, limits.audio_seconds) as file:
        if file.frames * file.channels > limits.sound_values:
            raise Refusal(
                TOO_LARGE,
                f"the sound has {file.frames} frames of {file.channels} channels, at most "
                f"{limits.sound_values} numbers are taken",
            )
        return Made(_wav(file, file.frames))


def item_audio(path: Path, limits: Limits) -> Made:
    """As `query_audio`, of the beginning of a longer sound."""
    with _sound(path, _SERVED_SECONDS) as file:
        rate, frames = file.samplerate, file.frames
        most = min(int(limits.audio_seconds * rate), limits.sound_values // file.channels)
        if frames <= most:
            return Made(_wav(file, frames))
        note = f"embedded by its first {most / rate:.4g} s, of {frames / rate:.4g} s"
        return Made(_wav(file, most), note)


def query_points(path: Path, limits: Limits) -> Made:
    """A point cloud as .npz."""
    return Made(_npz(_cloud(path, limits.points)))


def item_points(path: Path, limits: Limits) -> Made:
    """As `query_points`, of a part of a larger cloud."""
    cloud = _cloud(path, _SERVED_POINTS)
    if len(cloud) <= limits.points:
        return Made(_npz(cloud))
    note = f"embedded by {limits.points:,} of its {len(cloud):,} points"
    return Made(_npz(_some(cloud, limits.points)), note)


def thumbnail(path: Path, _: Limits) -> Made:
    """A picture of at most THUMBNAIL pixels as PNG, or WebP if it was made smaller."""
    picture = _picture(path, _SERVED_PIXELS, _SERVED_PICTURES)
    if max(picture.size) <= THUMBNAIL:
        return Made(_png(picture))
    picture = _resizable(picture)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    out = BytesIO()
    picture.save(out, "WEBP", quality=80)
    return Made(out.getvalue())


def waveform(path: Path, _: Limits) -> Made:
    """JSON: the seconds of a sound, and PEAKS pairs of its least and greatest values."""
    with _sound(path, _SERVED_SECONDS) as file:
        edges = np.linspace(0, file.frames, min(PEAKS, file.frames) + 1).astype(np.int64)
        peaks = np.tile(np.array([np.inf, -np.inf], np.float32), (len(edges) - 1, 1))
        start = 0
        for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
            _add_peaks(peaks, edges, start, block.mean(axis=1))
            start += len(block)
        seconds = file.frames / file.samplerate
    shown = np.nan_to_num(peaks, posinf=0, neginf=0).astype(float).round(4)
    return Made(json.dumps({"seconds": seconds, "peaks": shown.tolist()}).encode())


def points(path: Path, _: Limits) -> Made:
    """JSON: at most SHOWN_POINTS points of a cloud, evenly chosen, and their colours or null."""
    cloud = _cloud(path, _SERVED_POINTS)
    shown = _some(cloud, SHOWN_POINTS).astype(float).round(5)
    colours = shown[:, 3:].tolist() if shown.shape[1] > 3 else None
    return Made(json.dumps({"points": shown[:, :3].tolist(), "colours": colours}).encode())


TASKS: dict[str, Callable[[Path, Limits], Made]] = {
    "query_image": query_image,
    "query_audio": query_audio,
    "query_points": query_points,
    "item_image": item_image,
    "item_audio": item_audio,
    "item_points": item_points,
    "thumbnail": thumbnail,
    "waveform": waveform,
    "points": points,
}


def _picture(path: Path, most: int, formats: tuple[str, ...]) -> Image:
    """A picture of at most so many pixels. Raises Refusal if it has more, or is of another kind."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=formats) as image:
            width, height = image.size
    except UnidentifiedImageError:
        raise Refusal(
            UNSUPPORTED, f"it is no picture of a kind that is taken: {', '.join(formats)}"
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ItemError("it cannot be decoded as an image") from error
    if width * height > most:
        raise Refusal(
            TOO_LARGE,
            f"the picture has {width} x {height} pixels, at most {most} are taken",
        )
    return read_image(path, formats=formats)


def _png(picture: Image) -> bytes:
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    out = BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _resizable(picture: Image) -> Image:
    """A picture in a mode whose pixels can be averaged."""
    if picture.mode in ("L", "RGB", "RGBA"):
        return picture
    return picture.convert("RGBA" if "transparency" in picture.info else "RGB")


def _sound(path: Path, most: float) -> SoundFile:
    """An open sound of at most so many seconds."""
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except (OSError, RuntimeError) as error:
        raise Refusal(
            UNSUPPORTED, f"it is no sound of a kind that is taken: {', '.join(SOUNDS)}"
        ) from error
    problem = None
    if file.format not in SOUNDS:
        problem = UNSUPPORTED, f"the sound is {file.format}, taken are {', '.join(SOUNDS)}"
    elif not 1 <= file.samplerate <= MAX_SAMPLE_RATE or file.channels > _CHANNELS:
        problem = (
            UNPROCESSABLE,
            f"the sound has {file.channels} channels at {file.samplerate} Hz, at most {_CHANNELS} "
            f"at {MAX_SAMPLE_RATE} Hz are taken",
        )
    elif not 0 < file.frames <= most * file.samplerate:
        seconds = file.frames / file.samplerate
        status = TOO_LARGE if file.frames > 0 else UNPROCESSABLE
        problem = status, f"the sound says it lasts {seconds:.6g} s, at most {most:g} s are taken"
    if problem is not None:
        file.close()
        raise Refusal(*problem)
    return file


def _wav(file: SoundFile, frames: int) -> bytes:
    """The first frames of a sound, its channels averaged."""
    import soundfile

    read = file.read(frames, dtype="float32", always_2d=True)
    out = BytesIO()
    soundfile.write(out, read.mean(axis=1), file.samplerate, format="WAV", subtype="FLOAT")
    return out.getvalue()


def _add_peaks(
    peaks: NDArray[np.float32], edges: NDArray[np.int64], start: int, mono: NDArray[np.float32]
) -> None:
    """Widen the peaks by a block of samples that begins at frame `start`."""
    places = np.searchsorted(edges, np.arange(start, start + len(mono)), side="right") - 1
    places = np.minimum(places, len(peaks) - 1)
    np.minimum.at(peaks[:, 0], places, mono)
    np.maximum.at(peaks[:, 1], places, mono)


def _cloud(path: Path, most: int) -> NDArray[np.float32]:
    """A cloud (n, 3) or (n, 6). Raises Refusal if it has too many points, or claims so."""
    too_large = Refusal(TOO_LARGE, f"a cloud of at most {most} points is taken")
    if path.suffix.lower() == ".npz":
        try:
            with ZipFile(path) as archive:
                claimed = sum(info.file_size for info in archive.infolist())
        except (BadZipFile, OSError, ValueError) as error:
            raise ItemError("it is no archive of arrays") from error
        if claimed > most * _POINT_BYTES + _BLOCK:
            raise too_large
    cloud = read_cloud(path, min_points=1)
    if len(cloud) > most:
        raise too_large
    return cloud


def _some(cloud: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """At most so many points, evenly chosen in their order."""
    chosen = np.linspace(0, len(cloud) - 1, min(most, len(cloud))).round().astype(np.intp)
    return cloud[chosen]


def _npz(cloud: NDArray[np.float32]) -> bytes:
    out = BytesIO()
    if cloud.shape[1] > 3:
        np.savez(out, xyz=cloud[:, :3], rgb=cloud[:, 3:])
    else:
        np.savez(out, xyz=cloud)
    return out.getvalue()
