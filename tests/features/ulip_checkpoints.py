"""Made-up ULIP checkpoints with small towers, under the published names."""

from __future__ import annotations

import zlib
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def point_shapes(*, dimension: int = 512, channels: int = 3, depth: int = 2) -> Shapes:
    """Point tower of width 64, and what all checkpoints hold beside their towers."""
    encoder = "point_encoder.encoder"
    shapes: Shapes = {
        "logit_scale": (),
        "pc_projection": (128, dimension),
        "point_encoder.cls_token": (1, 1, 64),
        "point_encoder.cls_pos": (1, 1, 64),
        f"{encoder}.first_conv.0.weight": (16, channels, 1),
        f"{encoder}.first_conv.3.weight": (32, 16, 1),
        f"{encoder}.second_conv.0.weight": (64, 64, 1),
        f"{encoder}.second_conv.3.weight": (32, 64, 1),
        "point_encoder.reduce_dim.weight": (64, 32),
        "point_encoder.pos_embed.0.weight": (16, 3),
        "point_encoder.pos_embed.2.weight": (64, 16),
        "point_encoder.norm.weight": (64,),
    }
    for conv, hidden in (("first_conv", 16), ("second_conv", 64)):
        norm = f"{encoder}.{conv}.1"
        shapes |= {f"{norm}.{one}": (hidden,) for one in ("weight", "running_mean", "running_var")}
        shapes[f"{norm}.num_batches_tracked"] = ()
    for block in range(depth):
        shapes |= _block(f"point_encoder.blocks.blocks.{block}", 64)
    return _with_biases(shapes)


def image_shapes(dimension: int = 512) -> Shapes:
    """Image tower of width 128 with patches of 32."""
    shapes: Shapes = {
        "image_projection": (128, dimension),
        "visual.cls_token": (1, 1, 128),
        "visual.pos_embed": (1, 50, 128),
        "visual.patch_embed.proj.weight": (128, 3, 32, 32),
        "visual.norm.weight": (128,),
        "visual.blocks.0.attn.qkv.bias": (384,),
    }
    return _with_biases(shapes | _block("visual.blocks.0", 128))


def text_shapes(dimension: int = 512) -> Shapes:
    """Text tower of width 64."""
    block = "transformer.resblocks.0"
    shapes: Shapes = {
        "token_embedding.weight": (49_408, 64),
        "positional_embedding": (77, 64),
        "text_projection": (64, dimension),
        "ln_final.weight": (64,),
        f"{block}.ln_1.weight": (64,),
        f"{block}.ln_2.weight": (64,),
        f"{block}.attn.in_proj_weight": (192, 64),
        f"{block}.attn.in_proj_bias": (192,),
        f"{block}.attn.out_proj.weight": (64, 64),
        f"{block}.mlp.c_fc.weight": (128, 64),
        f"{block}.mlp.c_proj.weight": (64, 128),
    }
    return _with_biases(shapes)


def _block(name: str, width: int) -> Shapes:
    return {
        f"{name}.norm1.weight": (width,),
        f"{name}.norm2.weight": (width,),
        f"{name}.attn.qkv.weight": (3 * width, width),
        f"{name}.attn.proj.weight": (width, width),
        f"{name}.mlp.fc1.weight": (2 * width, width),
        f"{name}.mlp.fc2.weight": (width, 2 * width),
    }


def _with_biases(shapes: Shapes) -> Shapes:
    """Every layer has a bias but the embedding and the attention's queries, keys and values."""
    biases: Shapes = {
        name.removesuffix("weight") + "bias": (shape[0],)
        for name, shape in shapes.items()
        if name.endswith(".weight") and ".qkv." not in name and "token_embedding" not in name
    }
    return shapes | biases


def random_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values that follow from the name alone, of a size that keeps activations near 1.

    The rule of the reference vectors, there called B.
    """
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if name == "logit_scale":
        return torch.tensor(4.6052)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if len(shape) < 2:
        scale = 0.02
    else:
        scale = torch.Size(shape[1:]).numel() ** -0.5 if shape[0] > 1 else 0.5
    values = torch.randn(shape, generator=generator) * scale
    if name.endswith("running_var"):
        return values.abs() + 0.5
    return values + 1 if len(shape) == 1 and name.endswith(".weight") else values


def random_state(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of these names and shapes."""
    return {name: random_tensor(name, shape) for name, shape in shapes.items()}


def save_training(path: Path, state: dict[str, Tensor]) -> Path:
    """As ULIP's training saves it: names with `module.`, and its arguments beside them."""
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    arguments = Namespace(model="ULIP_PointBERT", npoints=8192)
    torch.save({"epoch": 250, "state_dict": prefixed, "args": arguments}, path)
    return path
