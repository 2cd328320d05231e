"""Fits the mini encoders that come with the package: `python -m features.encoders.mini.builtin`.

mini-clip sees pictures with sentences, mini-clap sounds with sentences, mini-ulip point
clouds with pictures and sentences, of the training numbers alone. No sound ever meets a
picture or a point cloud, and no two encoders see the same pictures.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from features import keypad
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import WEIGHTS
from features.encoders.mini.fit import FitSettings, fit_mini
from features.encoders.mini.inputs import audio_input, points_input, text_input

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from features.space import Modality

BUILTIN = {
    "mini-clip": (MiniConfig("mini-clip", ("image", "text"), dimension=128), 6000),
    "mini-clap": (MiniConfig("mini-clap", ("audio", "text"), dimension=96), 1800),
    "mini-ulip": (MiniConfig("mini-ulip", ("points", "image", "text"), dimension=128), 3600),
}
PAIRS = 24_000


def keypad_pairs(
    config: MiniConfig, chosen: list[str], rng: Generator
) -> dict[Modality, torch.Tensor]:
    """Fresh items of the training split for each of `chosen` numbers, as network inputs."""

    def make(number: str, modality: Modality) -> NDArray[Any]:
        if modality == "image":
            return keypad.image(number, "train", rng)
        if modality == "audio":
            return audio_input(keypad.sound(number, rng), config)
        if modality == "points":
            return points_input(keypad.points(number, "train", rng), config)
        return text_input(str(rng.choice(keypad.sentences(number))), config)

    return {
        modality: torch.from_numpy(np.stack([make(number, modality) for number in chosen]))
        for modality in config.modalities
    }


def fit_builtin(name: str) -> float:
    """Fit one of them into the package's folder of weights; returns the last loss in nats."""
    config, steps = BUILTIN[name]
    seed = list(BUILTIN).index(name)
    rng = np.random.default_rng([1110, seed])
    chosen = [str(number) for number in rng.choice(keypad.numbers("train"), PAIRS)]
    arrays = keypad_pairs(config, chosen, rng)
    return fit_mini(
        config,
        arrays,
        chosen,
        WEIGHTS / f"{name}.safetensors",
        settings=FitSettings(steps=steps, seed=seed),
        device="cpu",
    )


if __name__ == "__main__":
    for wanted in sys.argv[1:] or list(BUILTIN):
        fit_builtin(wanted)
