"""The text tower of the 512-d checkpoints: CLIP's causal transformer, as SLIP trained it.

Axes: b texts, t = 77 tokens, w width, d dimensions of the space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from features.encoders.ulip.blocks import attend
from features.encoders.ulip.settings import CONTEXT, VOCABULARY

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from features.encoders.ulip.shapes import Shapes


class TextTransformer(nn.Module):
    """Tokens to embeddings, not normalised."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        width = shapes.width("token_embedding.weight", 1)
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.positional_embedding = nn.Parameter(torch.empty(CONTEXT, width))
        self.transformer = nn.ModuleDict({"resblocks": _blocks(shapes, width)})
        self.ln_final = nn.LayerNorm(width, eps=1e-5)
        self.text_projection = nn.Parameter(torch.empty(width, shapes.dimension))

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Embed texts: the row of the end token, which has the largest id."""
        tokens = self.token_embedding(ids) + self.positional_embedding
        for block in self.transformer["resblocks"].children():
            tokens = block(tokens)
        ends = tokens[torch.arange(len(ids), device=ids.device), ids.argmax(dim=1)]
        embeddings: Tensor = self.ln_final(ends) @ self.text_projection
        return embeddings


class TextBlock(nn.Module):
    """A pre-norm block with causal attention and CLIP's quick GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.attn = CausalAttention(width)
        self.ln_1 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)}
        )
        self.ln_2 = nn.LayerNorm(width, eps=1e-5)

    def forward(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """The tokens after this block."""
        tokens = tokens + self.attn(self.ln_1(tokens))
        hidden = self.mlp["c_fc"](self.ln_2(tokens))
        out: Tensor = tokens + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))
        return out


class CausalAttention(nn.Module):
    """Self-attention to the tokens before, its tensors named as in `nn.MultiheadAttention`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """Mix the tokens of each text."""
        qkv = nn.functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        mixed: Tensor = self.out_proj(attend(qkv, causal=True))
        return mixed


def _blocks(shapes: Shapes, width: int) -> nn.ModuleList:
    prefix = "transformer.resblocks."
    hidden = shapes.of(f"{prefix}0.mlp.c_fc.weight", 0)
    return nn.ModuleList(TextBlock(width, hidden) for _ in range(shapes.count(prefix)))
