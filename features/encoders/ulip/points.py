"""The point tower: PointBERT (arXiv 2111.14819) as ULIP uses it, under its tensors' names.

Axes: b clouds, n points, g groups of k points, c numbers per point (3, or 6 with colours),
w width, d dimensions of the space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from features.encoders.ulip.blocks import Block
from features.encoders.ulip.grouping import group_points
from features.encoders.ulip.settings import GROUP_SIZE, GROUPS

if TYPE_CHECKING:
    from jaxtyping import Float

    from features.encoders.ulip.shapes import Shapes

# The activations of one cloud's groups take 32 MB a layer.
CLOUDS_AT_ONCE = 4


class PointBERT(nn.Module):
    """Point clouds to embeddings, not normalised."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.point_encoder = PointTransformer(shapes)
        features, dimension = 2 * shapes.width("point_encoder.cls_token", -1), shapes.dimension
        self.pc_projection = nn.Parameter(torch.empty(features, dimension))

    def forward(self, clouds: Float[Tensor, "b n c"]) -> Float[Tensor, "b d"]:
        """Embed clouds of equally many points, given in float32."""
        embeddings: Tensor = self.point_encoder(clouds) @ self.pc_projection
        return embeddings


class PointTransformer(nn.Module):
    """Groups of points as tokens; the features are the class token and the others' maximum."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        width = shapes.width("point_encoder.cls_token", -1)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.cls_pos = nn.Parameter(torch.empty(1, 1, width))
        self.encoder = MiniPointNet(shapes)
        self.reduce_dim = nn.Linear(shapes.of("point_encoder.reduce_dim.weight", 1), width)
        between = shapes.of("point_encoder.pos_embed.0.weight", 0)
        self.pos_embed = nn.Sequential(nn.Linear(3, between), nn.GELU(), nn.Linear(between, width))
        self.blocks = PositionedBlocks(shapes, width)
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, clouds: Float[Tensor, "b n c"]) -> Float[Tensor, "b 2w"]:
        """The features of clouds of equally many points."""
        groups, centres = group_points(clouds, GROUPS, GROUP_SIZE)
        dtype = self.cls_token.dtype
        # A few clouds at a time: their points, in many channels, are far larger than the tokens.
        parts = torch.split(groups.to(dtype), CLOUDS_AT_ONCE)
        tokens = self.reduce_dim(torch.cat([self.encoder(part) for part in parts]))
        positions = self.pos_embed(centres.to(dtype))
        first, place = (one.expand(len(tokens), -1, -1) for one in (self.cls_token, self.cls_pos))
        tokens = torch.cat([first, tokens], dim=1)
        tokens = self.norm(self.blocks(tokens, torch.cat([place, positions], dim=1)))
        return torch.cat([tokens[:, 0], tokens[:, 1:].amax(dim=1)], dim=-1)


class PositionedBlocks(nn.Module):
    """Blocks that are each given the tokens' positions again."""

    def __init__(self, shapes: Shapes, width: int) -> None:
        super().__init__()
        prefix = "point_encoder.blocks.blocks."
        hidden = shapes.of(f"{prefix}0.mlp.fc1.weight", 0)
        self.blocks = nn.ModuleList(
            Block(width, hidden, qkv_bias=False, eps=1e-5) for _ in range(shapes.count(prefix))
        )

    def forward(
        self, tokens: Float[Tensor, "b t w"], positions: Float[Tensor, "b t w"]
    ) -> Float[Tensor, "b t w"]:
        """The tokens after all blocks."""
        for block in self.blocks:
            tokens = block(tokens + positions)
        return tokens


class MiniPointNet(nn.Module):
    """One token for each group of points, whatever their order."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        prefix = "point_encoder.encoder"
        hidden, channels = (shapes.of(f"{prefix}.first_conv.0.weight", axis) for axis in (0, 1))
        local = shapes.of(f"{prefix}.first_conv.3.weight", 0)
        mixed = shapes.of(f"{prefix}.second_conv.0.weight", 0)
        out = shapes.of("point_encoder.reduce_dim.weight", 1)
        self.first_conv = _layers(channels, hidden, local)
        self.second_conv = _layers(2 * local, mixed, out)

    def forward(self, groups: Float[Tensor, "b g k c"]) -> Float[Tensor, "b g e"]:
        """Embed every group."""
        local = self.first_conv(groups.flatten(0, 1).transpose(1, 2))
        whole = local.amax(dim=2, keepdim=True)
        # The layer takes [whole, local] at every point. Its part of `whole` is the same at all
        # points of a group, so it is computed once.
        weight, bias = (self.second_conv.get_parameter(f"0.{one}") for one in ("weight", "bias"))
        of_whole, of_local = torch.split(weight, whole.shape[1], dim=1)
        mixed = conv1d(local, of_local) + conv1d(whole, of_whole, bias)
        out: Tensor = self.second_conv[1:](mixed)
        return out.amax(dim=2).view(*groups.shape[:2], -1)


def _layers(channels: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels, hidden, 1), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Conv1d(hidden, out, 1)
    )
