"""A small world of two spaces with shared meaning, so that a bridge can be learned in a second.

Every item has a hidden meaning near that of its class; a space is a fixed linear map of it,
and each modality stands off by a gap. `left` embeds text and audio (12-d), `right` text and
image (10-d).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.artefact import Bridge
from bridge.config import TrainSettings
from bridge.runs.log import read_log
from bridge.training.train import train
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import save_memory, write_memory

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":  # before anything imports Triton
    os.environ["TRITON_INTERPRET"] = "1"

SETTINGS = TrainSettings(dimension=16, hidden=32, epochs=30, batch=40, holdout=0.2)
MIXTURE = replace(SETTINGS, method="mixture", epochs=2)
WIDTHS = {"left": 12, "right": 10}
MODALITIES = {"left": ["audio", "text"], "right": ["image", "text"]}
CLASSES, MEANINGS = 8, 6


def unit(rows: np.ndarray) -> np.ndarray:
    """Unit rows, as memories store them."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def unit_rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random unit vectors as a tensor."""
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return torch.nn.functional.normalize(rows, dim=-1)


def write_items(
    path: Path,
    space: str,
    modality: str,
    items: Sequence[int],
    *,
    ids: Sequence[str] | None = None,
    weights: str | None = None,
    labels: bool = True,
) -> Memory:
    """The items' embeddings; item i is of class i % CLASSES, whatever space and modality."""
    meanings = np.stack([np.random.default_rng([7, i]).normal(size=MEANINGS) for i in items])
    centres = np.random.default_rng(5).normal(size=(CLASSES, MEANINGS)) * 2
    meanings = 0.5 * meanings + centres[[i % CLASSES for i in items]]
    which = list(WIDTHS).index(space)
    into = np.random.default_rng([1, which]).normal(size=(MEANINGS, WIDTHS[space]))
    kind = MODALITIES[space].index(modality)
    gap = np.random.default_rng([2, which, kind]).normal(size=WIDTHS[space])
    return save_memory(
        path,
        unit(meanings @ into + gap),
        ids or [f"{modality}-{i}" for i in items],
        space=space,
        modality=modality,
        labels=[f"class {i % CLASSES}" for i in items] if labels else None,
        encoder={"weights": weights or f"weights of {space}", "modalities": MODALITIES[space]},
    )


def projected_memory(
    path: Path,
    bridge: Bridge,
    rows: Sequence[Sequence[float]],
    ids: Sequence[str],
    *,
    modality: str = "audio",
    labels: Sequence[str] | None = None,
) -> Memory:
    """A memory in the bridge's shared space with known rows, zeros after what is given."""
    full = np.zeros((len(rows), bridge.dimension))
    full[:, : len(rows[0])] = rows
    header = MemoryHeader(
        bridge.name, modality, bridge.dimension, "float32", extra={"bridge": bridge.fingerprint}
    )
    return write_memory(path, header, Columns(ids, labels=labels), [unit(full)])


@dataclass(frozen=True)
class World:
    """Memories to train on, and `test` memories of items that no training saw."""

    folder: Path
    hub: tuple[Memory, Memory]
    leaf: tuple[Memory, Memory]
    test: tuple[Memory, Memory]


@pytest.fixture(scope="session", autouse=True)
def _torch_threads() -> None:
    torch.set_num_threads(1)  # matrices this small wait for a second thread, on a busy machine long


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(
        folder,
        hub=(
            write_items(folder / "text-left.h5", "left", "text", range(100)),
            write_items(folder / "text-right.h5", "right", "text", range(100)),
        ),
        leaf=(
            write_items(folder / "audio.h5", "left", "audio", range(200, 264)),
            write_items(folder / "image.h5", "right", "image", range(300, 356)),
        ),
        test=(
            write_items(folder / "audio-test.h5", "left", "audio", range(400, 440)),
            write_items(folder / "image-test.h5", "right", "image", range(500, 540)),
        ),
    )


@pytest.fixture(scope="session")
def made(world: World) -> Bridge:
    """A trained bridge; it is saved in `world.folder / "made"`."""
    return train(world.hub, world.leaf, world.folder / "made", SETTINGS, device="cpu")


@pytest.fixture(scope="session")
def mixed(world: World) -> Bridge:
    """A mixture; it is saved in `world.folder / "mixed"`."""
    return train(world.hub, world.leaf, world.folder / "mixed", MIXTURE, device="cpu")


class InterruptAfter:
    """A progress that presses Ctrl-C once `epochs` epochs are done."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    @contextmanager
    def task(self, description: str, total: int, *, unit: str = "items", done: int = 0):  # noqa: ARG002
        def advance(count: int) -> None:
            self.left -= count * (description == "train")
            if self.left <= 0:
                raise KeyboardInterrupt

        yield advance


def metrics_of(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without what differs between equal runs."""
    lines = read_log(folder / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
