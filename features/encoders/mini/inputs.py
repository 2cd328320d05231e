"""From a file or a sentence to the fixed-size array that a mini tower takes; no torch.

The arrays: image uint8 (height, width); audio float32 (samples,); points float32
(points, 3), centred, largest norm 1; text int16 (words,), 0 where there is no word.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import ItemError
from features.extraction.decode import read_audio, read_image, read_points, read_text

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from features.encoders.mini.config import MiniConfig
    from features.space import Modality

# Every digit is a token of its own, so that numbers never seen are made of known parts.
_TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]")


@dataclass(frozen=True)
class MiniInput:
    """Turns one item of `modality` into the array that the mini tower takes.

    An item is a path, or for text the sentence itself. Picklable, for worker processes.
    """

    config: MiniConfig
    modality: Modality

    def __call__(self, item: str | Path) -> NDArray[Any]:
        """The array of one item. Raises ItemError if it cannot be read."""
        if self.modality == "text":
            return text_input(read_text(item) if isinstance(item, Path) else item, self.config)
        path = Path(item)
        if self.modality == "image":
            return image_input(read_image(path), self.config)
        if self.modality == "audio":
            return audio_input(read_audio(path, self.config.sample_rate), self.config)
        return points_input(read_points(path, min_points=self.config.group_points), self.config)


def text_input(text: str, config: MiniConfig) -> NDArray[np.int16]:
    """Hash buckets of the words, lower case, every digit a word: (words,), 0 is padding."""
    found = _TOKEN.findall(text.lower())[: config.words]
    if not found:
        raise ItemError(f"no word or digit in the text {text!r}")
    tokens = np.zeros(config.words, dtype=np.int16)
    tokens[: len(found)] = [
        1 + zlib.crc32(word.encode()) % (config.vocabulary - 1) for word in found
    ]
    return tokens


def image_input(image: Image.Image, config: MiniConfig) -> NDArray[np.uint8]:
    """Grey levels (height, width): scaled to fit, centred on black."""
    from PIL import Image

    height, width = config.image_height, config.image_width
    grey = image.convert("L")
    scale = min(height / grey.height, width / grey.width)
    size = max(1, round(grey.width * scale)), max(1, round(grey.height * scale))
    if size != grey.size:
        grey = grey.resize(size, Image.Resampling.BILINEAR)
    canvas = np.zeros((height, width), dtype=np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = np.asarray(grey)
    return canvas


def audio_input(samples: NDArray[np.float32], config: MiniConfig) -> NDArray[np.float32]:
    """The middle of the sound at unit peak, zeros after it: (samples,)."""
    start = max(0, (len(samples) - config.samples) // 2)
    window = samples[start : start + config.samples]
    padded = np.zeros(config.samples, dtype=np.float32)
    padded[: len(window)] = window / max(float(np.abs(window).max()), 1e-6)
    return padded


def points_input(xyz: NDArray[np.float32], config: MiniConfig) -> NDArray[np.float32]:
    """Evenly chosen points (points, 3), repeated if too few, centred, largest norm 1."""
    chosen = xyz[np.linspace(0, len(xyz) - 1, config.points).round().astype(np.intp)]
    centred = chosen - chosen.mean(axis=0)
    radius = float(np.linalg.norm(centred, axis=1).max())
    if radius == 0:
        raise ItemError("all points of the cloud are the same")
    return np.asarray(centred / radius, dtype=np.float32)
