"""Transformer blocks that ULIP's point and image towers share (timm's vision transformer).

Axes: b items, t tokens, w width. Heads are 64 wide in every published tower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from features.encoders.ulip.settings import HEAD_WIDTH

if TYPE_CHECKING:
    from jaxtyping import Float


def attend(qkv: Float[Tensor, "b t 3w"], *, causal: bool = False) -> Float[Tensor, "b t w"]:
    """Softmax attention of every head; queries, keys and values lie side by side."""
    items, tokens, triple = qkv.shape
    width = triple // 3
    parts = qkv.view(items, tokens, 3, width // HEAD_WIDTH, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
    query, key, value = parts.unbind(0)
    mixed = scaled_dot_product_attention(query, key, value, is_causal=causal)
    return mixed.transpose(1, 2).reshape(items, tokens, width)


class Attention(nn.Module):
    """Self-attention."""

    def __init__(self, width: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """Mix the tokens of each item."""
        mixed: Tensor = self.proj(attend(self.qkv(tokens)))
        return mixed


class Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """Transform each token."""
        out: Tensor = self.fc2(gelu(self.fc1(tokens)))
        return out


class Block(nn.Module):
    """A pre-norm block: attention, then the layers, each added to what came in."""

    def __init__(self, width: int, hidden: int, *, qkv_bias: bool, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden)

    def forward(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """The tokens after this block."""
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out
