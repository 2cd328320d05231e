"""From a file or a sentence to the array that a ULIP tower takes; no torch for clouds and images.

The arrays: points float32 (n, 3), or (n, 6) with colours in [0, 1], n from 512 to the limit;
image uint8 (224, 224, 3); text int64 (77,), zero after the end token.

A text of more than 75 tokens is cut so that its last token is the end token, as CLIP's own
tokenizer does. ULIP's cuts the end token off; its text tower, which reads the row of the largest
token, then reads a wrong row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.encoders.ulip.settings import CONTEXT, GREY, GROUPS, IMAGE_SIZE, PointSettings
from features.errors import ItemError
from features.extraction.decode import read_cloud, read_image, read_text
from features.extras import require_package

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True)
class PointsInput:
    """Turns the path of a point cloud into an array. Picklable, for worker processes."""

    settings: PointSettings

    def __call__(self, item: str | Path) -> NDArray[np.float32]:
        """The array of one cloud. Raises ItemError if it cannot be read or is too small."""
        limit = self.settings.limit
        cloud = read_cloud(Path(item), min_points=GROUPS, surface_points=limit)
        return points_input(cloud, self.settings)


@dataclass(frozen=True)
class ImageInput:
    """Turns the path of an image into an array. Picklable, for worker processes."""

    def __call__(self, item: str | Path) -> NDArray[np.uint8]:
        """The array of one image. Raises ItemError if it cannot be read."""
        return image_input(read_image(Path(item)))


@dataclass(frozen=True)
class TextInput:
    """Turns a sentence, or the path of a text, into tokens."""

    def __call__(self, item: str | Path) -> NDArray[np.int64]:
        """The tokens of one text. Raises ItemError if it cannot be read or is empty."""
        return text_input(read_text(item) if isinstance(item, Path) else item)


def points_input(cloud: NDArray[np.float32], settings: PointSettings) -> NDArray[np.float32]:
    """The points that are used, normalised (ULIP's `pc_normalize`) and with colours as asked.

    cloud: (n, 3) or (n, 6). Raises ItemError if all points are the same.
    """
    if len(cloud) > settings.limit:
        rows = np.linspace(0, len(cloud) - 1, settings.limit).round().astype(np.int64)
        cloud = cloud[rows]
    xyz = cloud[:, :3].astype(np.float64)  # sums of large coordinates would lose the small ones
    if not np.ptp(xyz, axis=0).any():
        raise ItemError("all points of the cloud are the same")
    if settings.normalise:
        xyz -= xyz.mean(axis=0)
        xyz /= np.linalg.norm(xyz, axis=1).max()
    if not settings.colours:
        return np.ascontiguousarray(xyz, dtype=np.float32)
    colours = cloud[:, 3:6] if cloud.shape[1] >= 6 else np.full_like(xyz, GREY)
    return np.concatenate([xyz, colours], axis=1, dtype=np.float32)


def image_input(image: Image.Image) -> NDArray[np.uint8]:
    """The middle of the image in RGB, its shorter side scaled to 224: (224, 224, 3).

    Equal to torchvision's Resize(224) and CenterCrop(224) of a PIL image.
    """
    from PIL import Image as Pillow

    image = image.convert("RGB")
    shorter = min(image.size)
    width, height = (IMAGE_SIZE * side // shorter for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Pillow.Resampling.BILINEAR)
    left, top = round((width - IMAGE_SIZE) / 2), round((height - IMAGE_SIZE) / 2)
    return np.asarray(image.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE)))


def text_input(text: str) -> NDArray[np.int64]:
    """Start token, CLIP's byte pairs, end token, zeros: (77,). Raises ItemError if empty."""
    if not text.strip():
        raise ItemError("the text is empty")
    tokenizer = clip_tokenizer()
    pairs = tokenizer.encode(text)[: CONTEXT - 2]
    tokens = np.zeros(CONTEXT, dtype=np.int64)
    tokens[: len(pairs) + 2] = [tokenizer.sot_token_id, *pairs, tokenizer.eot_token_id]
    return tokens


@cache
def clip_tokenizer() -> Any:
    """CLIP's tokenizer. Raises UserError if the package that has it is not installed."""
    return require_package("open_clip", "tokenising text for ULIP").SimpleTokenizer()
