"""From a file to an array: images, sounds and point clouds, without torch.

Every reader returns one item or raises ItemError with the reason. Decoding runs in worker
processes, which start in milliseconds because nothing here imports torch.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from features.errors import ItemError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from features.space import Modality

SUFFIXES: dict[Modality, tuple[str, ...]] = {
    "text": (".txt",),
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif", ".au"),
    "points": (".npz", ".npy", ".xyz"),
}
MIN_SAMPLES = 2


def read_text(path: Path) -> str:
    """The whole file as one text, surrounding white space removed. Raises ItemError."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ItemError(f"cannot be read as UTF-8 text ({error})") from error
    if not text:
        raise ItemError("the text is empty")
    return text


def read_image(path: Path) -> Image.Image:
    """The decoded image, EXIF orientation applied. Raises ItemError."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
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
    import soundfile
    import soxr

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise ItemError(f"cannot be decoded as a sound ({_oneline(error)})") from error
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


def read_points(path: Path, *, min_points: int) -> NDArray[np.float32]:
    """Coordinates (n, 3) of a point cloud as the file has them, n >= min_points.

    .npz holds them under `xyz` (or is a single array), .npy as (n, 3 or more) with the
    coordinates first, .xyz as text with three numbers first on each line. Raises ItemError.
    """
    try:
        xyz = _load_points(path)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        raise ItemError(f"cannot be read as a point cloud ({_oneline(error)})") from error
    if xyz.ndim != 2 or xyz.shape[1] < 3:
        raise ItemError(f"a point cloud is an array (n, 3), this one is {xyz.shape}")
    if xyz.dtype.kind not in "fiu":
        raise ItemError(f"a point cloud holds numbers, this one has type {xyz.dtype}")
    xyz = np.ascontiguousarray(xyz[:, :3], dtype=np.float32)
    if not np.isfinite(xyz).all():
        bad = int((~np.isfinite(xyz).all(axis=1)).sum())
        raise ItemError(f"{bad} of {len(xyz)} points are NaN or infinite")
    if len(xyz) < min_points:
        raise ItemError(f"the point cloud has {len(xyz)} points, needs at least {min_points}")
    return xyz


def _load_points(path: Path) -> NDArray[np.float32]:
    if path.suffix.lower() == ".xyz":
        return np.loadtxt(path, dtype=np.float32, ndmin=2)
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        names = loaded.files
        name = "xyz" if "xyz" in names else names[0] if len(names) == 1 else None
        if name is None:
            raise KeyError(f"no array named xyz among {', '.join(names) or 'none'}")
        return np.asarray(loaded[name])


def _oneline(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
