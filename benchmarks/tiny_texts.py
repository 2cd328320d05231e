"""An encoder that costs next to nothing, so that what is timed is all that is around an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from features.encoders import EncoderDescription, ItemInput
from features.space import Modality, Space

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

DIMENSION = 8


def hashed(item: str | Path) -> NDArray[Any]:
    """A sentence as eight numbers that no other has."""
    return np.frombuffer(xxhash.xxh3_128_digest(str(item).encode()), np.int16)


class TinyTexts:
    """Sentences as random directions."""

    space = Space("tiny", DIMENSION, ("text",))
    description = EncoderDescription(
        name="tiny", spec="benchmarks.tiny_texts:load", weights="0", modalities=("text",),
        preprocessing={}, precision="fp32", versions={},
    )  # fmt: skip

    def input(self, modality: Modality) -> ItemInput:
        """What a sentence becomes."""
        self.space.require(modality)
        return hashed

    def encode(self, batch: Sequence[NDArray[Any]], modality: Modality) -> Tensor:
        """Unit rows (b, 8)."""
        import torch

        self.space.require(modality)
        rows = torch.from_numpy(np.stack(batch).astype(np.float32)) + 0.5  # never zero
        return torch.nn.functional.normalize(rows, dim=-1)


def load(argument: str, *, device: str, precision: str) -> TinyTexts:
    """`benchmarks.tiny_texts:load`; on a CPU, in float32."""
    del argument, device, precision
    return TinyTexts()
