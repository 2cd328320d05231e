"""ULIP's towers: each against its formula, or the library that its tensors come from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from features.encoders.ulip import load_ulip
from features.encoders.ulip.encoder import UlipEncoder
from features.encoders.ulip.grouping import farthest_points, group_points, nearest_points
from features.encoders.ulip.points import PointBERT
from tests.features.ulip_checkpoints import (
    image_shapes,
    point_shapes,
    random_state,
    save_training,
    text_shapes,
)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Image, text and point towers into 512 dimensions."""
    return random_state(point_shapes() | image_shapes() | text_shapes())


@pytest.fixture(scope="module")
def encoder(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> UlipEncoder:
    path = save_training(tmp_path_factory.mktemp("ulip") / "checkpoint.pt", state)
    return load_ulip(str(path), device="cpu")


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _block(tokens: Tensor, part: dict[str, Tensor], *, eps: float) -> Tensor:
    """A block of 64-wide heads, one head and one step at a time."""
    width = tokens.shape[-1]
    normed = layer_norm(tokens, (width,), part["norm1.weight"], part["norm1.bias"], eps)
    qkv = linear(normed, part["attn.qkv.weight"], part.get("attn.qkv.bias"))
    query, key, value = torch.split(qkv, width, dim=-1)
    heads = []
    for start in range(0, width, 64):
        q, k, v = (one[..., start : start + 64] for one in (query, key, value))
        heads.append((q @ k.transpose(-1, -2) / 8).softmax(dim=-1) @ v)
    mixed = linear(torch.cat(heads, dim=-1), part["attn.proj.weight"], part["attn.proj.bias"])
    tokens = tokens + mixed
    normed = layer_norm(tokens, (width,), part["norm2.weight"], part["norm2.bias"], eps)
    hidden = gelu(linear(normed, part["mlp.fc1.weight"], part["mlp.fc1.bias"]))
    return tokens + linear(hidden, part["mlp.fc2.weight"], part["mlp.fc2.bias"])


# --- the point tower


@torch.inference_mode()
def test_the_point_tower_is_its_formula(encoder: UlipEncoder, state: dict[str, Tensor]) -> None:
    tower = encoder.towers["points"]
    assert isinstance(tower, PointBERT)
    clouds = _drawn(2, 520, 3)
    groups, centres = group_points(clouds, 512, 32)
    part = _part(state, "point_encoder.")
    tokens = linear(
        tower.point_encoder.encoder(groups), part["reduce_dim.weight"], part["reduce_dim.bias"]
    )
    between = gelu(linear(centres, part["pos_embed.0.weight"], part["pos_embed.0.bias"]))
    places = linear(between, part["pos_embed.2.weight"], part["pos_embed.2.bias"])
    tokens = torch.cat([part["cls_token"].expand(2, 1, 64), tokens], dim=1)
    places = torch.cat([part["cls_pos"].expand(2, 1, 64), places], dim=1)
    for block in range(2):
        tokens = _block(tokens + places, _part(part, f"blocks.blocks.{block}."), eps=1e-5)
    tokens = layer_norm(tokens, (64,), part["norm.weight"], part["norm.bias"], 1e-5)
    features = torch.cat([tokens[:, 0], tokens[:, 1:].max(dim=1).values], dim=1)
    expected = features @ state["pc_projection"]
    torch.testing.assert_close(tower(clouds), expected, rtol=0, atol=2e-5)


def test_farthest_points_is_the_greedy_choice() -> None:
    clouds = torch.randn(3, 60, 3, generator=torch.Generator().manual_seed(0))
    for cloud, rows in zip(clouds, farthest_points(clouds, 20).tolist(), strict=True):
        chosen = [0]
        while len(chosen) < 20:
            nearest = [min(float((p - cloud[c]).norm()) for c in chosen) for p in cloud]
            chosen.append(nearest.index(max(nearest)))
        assert rows == chosen


def test_the_first_of_equally_far_points_is_taken() -> None:
    corners = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]]).float()
    assert farthest_points(corners[None], 5).tolist() == [[0, 3, 1, 2, 0]]


def test_neighbours_are_the_nearest_even_far_from_the_origin() -> None:
    drawn = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    clouds = (drawn + 1000).round(decimals=2)
    centres = clouds[:, :4]
    found = nearest_points(clouds, centres, 6).sort(dim=-1).values
    for cloud, middles, rows in zip(clouds.double(), centres.double(), found, strict=True):
        for middle, row in zip(middles, rows.tolist(), strict=True):
            distance = (cloud - middle).square().sum(dim=1)
            assert sorted(distance.argsort()[:6].tolist()) == row


def test_groups_are_relative_to_their_centre_and_keep_their_colours() -> None:
    cloud = _drawn(1, 80, 6)
    groups, centres = group_points(cloud, 10, 5)
    assert groups.shape == (1, 10, 5, 6)
    assert torch.equal(centres[0, 0], cloud[0, 0, :3])
    for group, centre in zip(groups[0], centres[0], strict=True):
        assert float(group[:, :3].norm(dim=1).min()) == 0
        for member in group:
            row = (cloud[0, :, 3:] - member[3:]).abs().sum(dim=1).argmin()
            torch.testing.assert_close(cloud[0, row, :3], member[:3] + centre)
            assert torch.equal(cloud[0, row, 3:], member[3:])


@torch.inference_mode()
def test_the_mini_pointnet_is_its_formula(encoder: UlipEncoder) -> None:
    tower = encoder.towers["points"]
    assert isinstance(tower, PointBERT)
    net = tower.point_encoder.encoder
    groups = torch.randn(2, 3, 7, 3, generator=torch.Generator().manual_seed(0))
    local = net.first_conv(groups.view(6, 7, 3).transpose(1, 2))
    whole = local.max(dim=2, keepdim=True).values.expand(-1, -1, 7)
    expected = net.second_conv(torch.cat([whole, local], dim=1)).max(dim=2).values.view(2, 3, -1)
    torch.testing.assert_close(net(groups), expected, rtol=0, atol=1e-5)
    shuffled = groups[:, :, torch.randperm(7, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(net(shuffled), expected, rtol=0, atol=1e-5)


# --- the image and text towers


@torch.inference_mode()
def test_the_image_tower_is_timms(encoder: UlipEncoder, state: dict[str, Tensor]) -> None:
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    reference = vision_transformer.VisionTransformer(
        patch_size=32, embed_dim=128, depth=1, num_heads=2, mlp_ratio=2, num_classes=0
    ).eval()
    reference.load_state_dict(_part(state, "visual."))
    images = _drawn(2, 3, 224, 224)
    expected = reference(images) @ state["image_projection"]
    torch.testing.assert_close(encoder.towers["image"](images), expected, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_the_text_tower_is_its_formula(encoder: UlipEncoder, state: dict[str, Tensor]) -> None:
    ids = torch.zeros(2, 77, dtype=torch.long)
    ids[0, :4] = torch.tensor([49406, 320, 1929, 49407])
    ids[1, :3] = torch.tensor([49406, 7, 49407])
    part = _part(state, "transformer.resblocks.0.")
    attention = nn.MultiheadAttention(64, 1, batch_first=True).eval()
    attention.load_state_dict(_part(part, "attn."))
    tokens = state["token_embedding.weight"][ids] + state["positional_embedding"]
    mask = torch.full((77, 77), -torch.inf).triu(1)
    normed = layer_norm(tokens, (64,), part["ln_1.weight"], part["ln_1.bias"])
    tokens = tokens + attention(normed, normed, normed, attn_mask=mask)[0]
    normed = layer_norm(tokens, (64,), part["ln_2.weight"], part["ln_2.bias"])
    hidden = linear(normed, part["mlp.c_fc.weight"], part["mlp.c_fc.bias"])
    hidden = hidden / (1 + torch.exp(-1.702 * hidden))
    tokens = tokens + linear(hidden, part["mlp.c_proj.weight"], part["mlp.c_proj.bias"])
    tokens = layer_norm(tokens, (64,), state["ln_final.weight"], state["ln_final.bias"])
    expected = tokens[[0, 1], [3, 2]] @ state["text_projection"]
    torch.testing.assert_close(encoder.towers["text"](ids), expected, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_text_after_the_end_token_does_not_count(encoder: UlipEncoder) -> None:
    tokens = torch.zeros(2, 77, dtype=torch.long)
    tokens[:, :4] = torch.tensor([49406, 320, 1929, 49407])
    tokens[1, 4:] = 5
    first, second = encoder.towers["text"](tokens)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)
