"""An encoder whose decoder does to its process what broken files have done to others.

An item is a file; what is in it says what decoding it does. Others are embedded by their content.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.device import resolve_device
from features.encoders import EncoderDescription, ItemInput
from features.room import all_bytes
from features.space import Modality, Space

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

DIMENSION = 8
DEEDS = ("crash", "killed", "leaves", "greedy", "hangs")


def load(argument: str, *, device: str, precision: str) -> Hostile:
    """`tests.faults.hostile:load`; there is nothing to choose."""
    assert not argument
    return Hostile(device, precision)


def read(item: str | Path) -> NDArray[Any]:
    """The file's bytes as numbers, or the end of the process."""
    content = Path(item).read_bytes()
    deed = content.decode("ascii", "replace")
    if deed == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif deed == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "leaves":
        os._exit(3)
    elif deed == "greedy":
        np.ones(2 * all_bytes(), np.uint8)
    elif deed == "hangs":
        threading.Event().wait()
    return np.random.default_rng(list(content)).normal(size=DIMENSION).astype(np.float32)


class Hostile:
    """Images, by their bytes."""

    def __init__(self, device: str, precision: str) -> None:
        self.device = resolve_device(device)
        self.space = Space("hostile", DIMENSION, ("image",))
        self.description = EncoderDescription(
            name="hostile", spec="tests.faults.hostile:load", weights="none",
            modalities=self.space.modalities, preprocessing={}, precision=precision, versions={},
        )  # fmt: skip

    def input(self, modality: Modality) -> ItemInput:
        self.space.require(modality)
        return read

    def encode(self, batch: Sequence[NDArray[Any]], modality: Modality) -> Tensor:
        import torch

        self.space.require(modality)
        return torch.nn.functional.normalize(
            torch.from_numpy(np.stack(batch)).to(self.device), dim=-1
        )
