"""Made-up bridges between two 8-d spaces of the same items; they blur the first more or less."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bridge.artefact import Bridge, BridgedSpace
from bridge.config import TrainSettings
from bridge.projector import Projector
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.bridge.conftest import unit

WIDTH = 8
EYE = torch.eye(WIDTH)


def bridge(name: str, *, blur: float = 0.0, seed: int = 0, turn: torch.Tensor = EYE) -> Bridge:
    """Leaves `right` as it is, and mixes the dimensions of `left` by `blur`.

    turn: blur as if the world had been turned so.
    """
    noise = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed))
    return linear(name, turn @ (EYE + blur * noise) @ turn.T, EYE)


def linear(name: str, left: torch.Tensor, right: torch.Tensor) -> Bridge:
    projectors = {}
    for space, weight in (("left", left), ("right", right)):
        projectors[space] = Projector(
            "linear", inputs=WIDTH, outputs=WIDTH, hidden=1, generator=torch.Generator()
        )
        projectors[space].load_state_dict({"offset": torch.zeros(WIDTH), "layers.0.weight": weight})
    spaces = [BridgedSpace("left", WIDTH, ("audio",)), BridgedSpace("right", WIDTH, ("image",))]
    settings = TrainSettings(projector="linear", dimension=WIDTH)
    return Bridge(name, spaces, projectors, settings)


GOOD, FAIR, POOR = (
    bridge(name, blur=blur, seed=seed)
    for name, blur, seed in (("good", 0.02, 1), ("fair", 0.15, 2), ("poor", 0.6, 3))
)


def memories(
    folder: Path,
    classes: Sequence[int],
    *,
    labels: bool = True,
    unmatched: int = 0,
    seed: int = 0,
) -> tuple[Memory, Memory]:
    """Sounds, of each class as many as `classes` says, and images, of each class one fewer.

    labels: or else an id for each class. unmatched: sounds more, of classes without an image.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(classes) + unmatched, WIDTH))
    made = []
    for space, modality in (("left", "audio"), ("right", "image")):
        counts = [*classes, *[1] * unmatched]
        if modality == "image":
            counts = [max(1, count - 1) for count in classes]
        names = [f"c{i}" for i, count in enumerate(counts) for _ in range(count)]
        rows = np.repeat(centres[: len(counts)], counts, axis=0)
        made.append(
            save_memory(
                folder / f"{modality}-{seed}.h5",
                unit(rows + 0.7 * rng.normal(size=rows.shape)),
                [f"{modality}-{i}" for i in range(len(names))] if labels else names,
                space=space,
                modality=modality,
                labels=names if labels else None,
            )
        )
    return made[0], made[1]
