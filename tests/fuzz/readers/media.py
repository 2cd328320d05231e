"""Pictures, sounds and texts, as workers decode them for encoders."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from features.errors import ItemError
from features.extraction.decode import read_audio, read_audio_parts, read_image, read_text
from tests.fuzz.target import Target

_PIXELS = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
_WAVE = np.sin(np.arange(400) / 5).astype(np.float32)


def pictures(_: Path) -> Iterable[bytes]:
    """A small picture in every format."""
    made = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        out = io.BytesIO()
        Image.fromarray(_PIXELS).save(out, kind)
        made.append(out.getvalue())
    deep, turned = io.BytesIO(), io.BytesIO()
    Image.fromarray(_PIXELS[:, :, 0].astype(np.uint16) * 200).save(deep, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_PIXELS).save(turned, "JPEG", exif=exif)
    return [*made, deep.getvalue(), turned.getvalue()]


def sounds(_: Path) -> Iterable[bytes]:
    """A short sound in every format."""
    made = []
    for kind, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", None), ("OGG", "VORBIS"),
                          ("AIFF", None), ("MP3", None), ("AU", None)):  # fmt: skip
        out = io.BytesIO()
        soundfile.write(out, _WAVE, 8000, format=kind, subtype=subtype)
        made.append(out.getvalue())
    return made


def _image(path: Path) -> None:
    read_image(path).convert("RGB")


def _sound(path: Path) -> None:
    try:
        read_audio(path, 16_000)
    except ItemError:
        read_audio_parts(path, 4000, lambda length: [(0, min(length, 2000))])
    else:
        read_audio_parts(path, 4000, lambda length: [(0, 100), (max(0, length - 50), length)])


TARGETS = (
    # Pillow opens up to 179 million pixels, and decodes them into more than their 3 bytes.
    Target("image", "a.png", _image, pictures, allowed=(ItemError,), memory=1 << 30),
    Target("sound", "a.wav", _sound, sounds, allowed=(ItemError,), weight=0.5),
    Target("text", "a.txt", read_text, lambda _: [b"a cat\n"], allowed=(ItemError,),
           weight=0.5),
)  # fmt: skip
