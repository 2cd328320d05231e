"""From an image file or a sentence to what an open_clip model takes.

Images go through the model's own transform up to the last step that Pillow can do, and travel
as uint8 (height, width, 3); the rest, scaling and normalising, is done for whole batches with
the same arithmetic. EXIF orientation is applied first. Texts are token ids (context,) int64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from features.errors import ItemError
from features.extraction.decode import read_image, read_text

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClipImage:
    """Turns a path into the array that `OpenClipEncoder.encode` takes.

    preprocess: the model's `PreprocessCfg` as sorted items. Picklable, for worker processes.
    """

    preprocess: tuple[tuple[str, Any], ...]
    imports: ClassVar = ("open_clip.transform",)

    def __call__(self, item: str | Path) -> NDArray[np.uint8]:
        """The resized and cropped image. Raises ItemError if it cannot be read."""
        image = read_image(Path(item))
        for step in _pillow_steps(self.preprocess):
            image = step(image)
        return np.array(image)


@dataclass(frozen=True)
class ClipText:
    """Turns a sentence, or a text file, into token ids by the model's own tokenizer."""

    tokenizer: Callable[..., Any]
    imports: ClassVar = ("open_clip.tokenizer",)

    def __call__(self, item: str | Path) -> NDArray[np.int64]:
        """Token ids (context,). Raises ItemError if the text is empty or cannot be read."""
        text = read_text(item) if isinstance(item, Path) else item
        if not text.strip():
            raise ItemError("the text is empty")
        tokens: NDArray[np.int64] = self.tokenizer([text])[0].numpy()
        return tokens


def image_steps(preprocess: Mapping[str, Any]) -> list[Any]:
    """The steps of open_clip's transform at evaluation."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    steps: list[Any] = image_transform_v2(PreprocessCfg(**preprocess), is_train=False).transforms
    return steps


@lru_cache(maxsize=4)
def _pillow_steps(preprocess: tuple[tuple[str, Any], ...]) -> list[Any]:
    """Those that take and give Pillow images: all but scaling to [0, 1] and normalising."""
    return image_steps(dict(preprocess))[:-2]
