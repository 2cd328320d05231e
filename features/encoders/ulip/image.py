"""The image tower of the 512-d checkpoints: SLIP's ViT-B/16 (timm's `vit_base_patch16_224`).

Axes: b images, w width, d dimensions of the space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from features.encoders.ulip.blocks import Block
from features.encoders.ulip.settings import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    from features.encoders.ulip.shapes import Shapes


class ImageTransformer(nn.Module):
    """Images to embeddings, not normalised."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.visual = VisionTransformer(shapes)
        width = shapes.width("visual.cls_token", -1)
        self.image_projection = nn.Parameter(torch.empty(width, shapes.dimension))

    def forward(self, images: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b d"]:
        """Embed images from `normalise_pixels`."""
        features = self.visual(images.to(self.image_projection.dtype))
        embeddings: Tensor = features @ self.image_projection
        return embeddings


class VisionTransformer(nn.Module):
    """Square patches as tokens; the feature is the class token."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        width = shapes.width("visual.cls_token", -1)
        patch = shapes.of("visual.patch_embed.proj.weight", -1)
        hidden = shapes.of("visual.blocks.0.mlp.fc1.weight", 0)
        tokens = 1 + (IMAGE_SIZE // patch) ** 2
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(
            Block(width, hidden, qkv_bias=True, eps=1e-6)
            for _ in range(shapes.count("visual.blocks."))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b w"]:
        """The features of images."""
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        tokens = tokens + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        feature: Tensor = self.norm(tokens[:, 0])
        return feature


def normalise_pixels(pixels: UInt8[Tensor, "b 224 224 3"]) -> Float[Tensor, "b 3 224 224"]:
    """Channels first, ImageNet's mean 0 and deviation 1, in float32."""
    mean, std = (pixels.new_tensor(one, dtype=torch.float32) for one in (IMAGE_MEAN, IMAGE_STD))
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
