"""ULIP's towers against values that the official code gave for the same made-up weights.

The reference vectors lie beside the real data; without them these tests skip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from features.encoders.ulip import load_ulip
from features.encoders.ulip.encoder import UlipEncoder
from features.encoders.ulip.grouping import farthest_points, nearest_points
from features.encoders.ulip.inputs import PointsInput, points_input, text_input
from features.encoders.ulip.settings import PointSettings
from tests.conftest import DATA
from tests.features.ulip_checkpoints import random_state, save_training

ORACLE = DATA.parent / "oracles" / "ulip"
TOLERANCE = 1.5e-5
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not ORACLE.exists(), reason=f"reference vectors are missing: {ORACLE}"),
]
Arrays = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="module")
def oracle() -> Arrays:
    with np.load(ORACLE / "oracle.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> UlipEncoder:
    """The towers in their published size, their weights made from the names."""
    described = json.loads((ORACLE / "names_shapes.json").read_text())
    state = random_state({name: tuple(one["shape"]) for name, one in described.items()})
    for name, one in described.items():
        first = state[name].flatten()[:3].tolist()
        np.testing.assert_allclose(first, one["first3_B"], atol=1e-6, err_msg=name)
    path = save_training(tmp_path_factory.mktemp("ulip") / "checkpoint.pt", state)
    loaded = load_ulip(str(path), device="cpu")
    path.unlink()
    return loaded


def _clouds(name: str) -> NDArray[np.float32]:
    if name == "1024":
        drawn = torch.randn(2, 1024, 3, generator=torch.Generator().manual_seed(7))
        return np.stack([points_input(cloud, PointSettings()) for cloud in drawn.numpy()])
    path = DATA / "objaverse3" / "toilet.npz"
    return PointsInput(PointSettings(normalise=False))(path)[None]


@pytest.mark.parametrize("name", ["1024", "toilet"])
def test_the_cloud_is_the_one_of_the_reference(oracle: Arrays, name: str) -> None:
    np.testing.assert_allclose(_clouds(name), oracle[f"in_pc_{name}"], atol=3e-7)


@pytest.mark.parametrize("name", ["1024", "toilet"])
def test_centres_and_neighbours_are_those_of_the_reference(oracle: Arrays, name: str) -> None:
    clouds = torch.from_numpy(oracle[f"in_pc_{name}"]).float()
    chosen = farthest_points(clouds, 512)
    np.testing.assert_array_equal(chosen.numpy(), oracle[f"pc_{name}_start0_fps_idx"])
    centres = torch.stack([cloud[rows] for cloud, rows in zip(clouds, chosen, strict=True)])
    rows = nearest_points(clouds, centres, 32).sort(dim=-1).values.numpy()
    np.testing.assert_array_equal(rows[:, :3], oracle[f"pc_{name}_start0_knn_first3_sorted"])
    if name == "1024":
        np.testing.assert_array_equal(rows[0], oracle["pc_1024_start0_knn_all_sorted_item0"])


@pytest.mark.parametrize("name", ["1024", "toilet"])
@torch.inference_mode()
def test_point_embeddings_are_those_of_the_reference(
    encoder: UlipEncoder, oracle: Arrays, name: str
) -> None:
    embedded = encoder.towers["points"](torch.from_numpy(_clouds(name)))
    expected = oracle[f"B_pc_{name}_start0_embed"]
    np.testing.assert_allclose(embedded.numpy(), expected, rtol=0, atol=TOLERANCE)


@torch.inference_mode()
def test_image_embeddings_are_those_of_the_reference(encoder: UlipEncoder, oracle: Arrays) -> None:
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(8))
    embedded = encoder.towers["image"](images).numpy()
    np.testing.assert_allclose(embedded, oracle["B_image_embed"], rtol=0, atol=TOLERANCE)


@torch.inference_mode()
def test_text_embeddings_are_those_of_the_reference(encoder: UlipEncoder, oracle: Arrays) -> None:
    ids = torch.from_numpy(oracle["token_ids"]).long()
    embedded = encoder.towers["text"](ids).numpy()
    np.testing.assert_allclose(embedded, oracle["B_text_embed"], rtol=0, atol=TOLERANCE)


def test_tokens_are_those_of_the_reference(oracle: Arrays) -> None:
    pytest.importorskip("open_clip")
    texts = ("a dog", "a point cloud of a chair", "a photo of a toilet.")
    np.testing.assert_array_equal([text_input(text) for text in texts], oracle["token_ids"])
