"""Layers that describe an embedding by the hub items that it resembles.

Both spaces have the same hub items, so the same coordinate means the same item in both, and no
projector needs to be trained: the map goes through the items.

Axes: n embeddings, d dimensions of the frozen space, k anchors (hub items of that space).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Similarities(nn.Module):
    """Relative representations: cosines with the anchors (Moschella et al., arXiv 2209.15430)."""

    def __init__(self, anchors: Float[Tensor, "k d"]) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors)
        self.anchors: Tensor

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Inner products with every anchor."""
        return embeddings @ self.anchors.T


class Posterior(nn.Module):
    """Hub routing: the square root of the softmax distribution over the anchors, p(t | x).

    The inner product of two of these unit vectors is the Bhattacharyya coefficient
    `sum_t sqrt(p(t | a) p(t | v))` of the two distributions. It agrees where their product
    `sum_t p(t | a) p(t | v)` does, is 1 where they are equal, and can be searched as cosine.
    """

    def __init__(self, anchors: Float[Tensor, "k d"], temperature: float) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors)
        self.register_buffer("temperature", torch.tensor(temperature))
        self.anchors: Tensor
        self.temperature: Tensor

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Square roots of probabilities."""
        return torch.softmax(embeddings @ self.anchors.T / self.temperature, dim=-1).sqrt()
