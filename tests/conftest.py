"""Fixtures that all tests share: tiny encoders with random weights, and the real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import MiniEncoder, load_file, save_mini
from features.encoders.mini.towers import Tower

DATA = Path(__file__).parents[2] / "shared" / "data"
TINY = {
    "dimension": 16, "width": 16, "layers": 1, "heads": 2, "image_height": 16, "image_width": 32,
    "seconds": 0.25, "mel_bands": 16, "points": 64, "point_groups": 8, "group_points": 8,
    "words": 8, "vocabulary": 64,
}  # fmt: skip

MakeEncoder = Callable[..., MiniEncoder]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole journeys, in the files of this folder, first: they last longest, and nothing waits."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def _torch_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> MakeEncoder:
    """`make_encoder(modalities, seed=0, **config)`: a random encoder, saved and loaded again.

    The same arguments give the same weights, in a file of their own.
    """

    def make(*modalities: str, seed: int = 0, name: str = "tiny", **config: Any) -> MiniEncoder:
        settings = MiniConfig(name, modalities, **{**TINY, **config})  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            towers = {modality: Tower(modality, settings) for modality in settings.modalities}
        path = tmp_path_factory.mktemp("encoder") / f"{name}.safetensors"
        save_mini(path, settings, towers)
        return load_file(str(path), device="cpu")

    return make


@pytest.fixture(scope="session")
def tiny_encoder(make_encoder: MakeEncoder) -> MiniEncoder:
    """Images and text in 16 dimensions, by random weights."""
    return make_encoder("image", "text")


@pytest.fixture(scope="session")
def digits_folder() -> Path:
    """Spoken and handwritten digits."""
    return _data("digits")


@pytest.fixture(scope="session")
def vggsound_file() -> Path:
    """309 class names as the real CLIP and CLAP embed them."""
    return _data("vggsound309/texts.npz")


def _data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real data is missing: {path}")
    return path
