"""Projectors: tiny networks from one frozen space into the shared space.

Axes: n items, d dimensions of the frozen space, e of the shared one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Shape = Literal["mlp2", "mlp1", "linear", "exmcr", "identity"]


class Projector(nn.Module):
    """Maps centred unit embeddings of one space to unit embeddings of the shared space.

    mlp2: Linear, BatchNorm, ReLU, Linear, BatchNorm (C-MCR's CLIP-CLAP).
    mlp1: Linear, BatchNorm, ReLU (C-MCR's CLIP-ULIP).
    linear: one Linear without bias.
    exmcr: Linear, then mlp2 twice (Ex-MCR, arXiv 2310.08884).
    identity: nothing, for the space that the others are projected into (Ex-MCR's CLIP).

    `offset` (d,) is the point of the frozen space that `centred` makes the origin; it is zero
    unless `centre_on` sets it.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        inputs: int,
        outputs: int,
        hidden: int,
        generator: torch.Generator,
    ) -> None:
        """Initial weights come from `generator`, uniform as torch's own Linear has them."""
        super().__init__()
        self.register_buffer("offset", torch.zeros(inputs))
        self.offset: Tensor
        self.bf16 = False  # compute the layers in bfloat16, weights stay float32
        layers: dict[Shape, Callable[[], list[nn.Module]]] = {
            "mlp2": lambda: _mlp2(inputs, hidden, outputs),
            "mlp1": lambda: [_linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()],
            "linear": lambda: [_linear(inputs, outputs, bias=False)],
            "exmcr": lambda: [
                _linear(inputs, outputs),
                *_mlp2(outputs, hidden, outputs),
                *_mlp2(outputs, hidden, outputs),
            ],
            "identity": list,
        }
        self.layers = nn.Sequential(*layers[shape]())
        with torch.no_grad():
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    bound = layer.in_features**-0.5
                    for parameter in layer.parameters():
                        parameter.uniform_(-bound, bound, generator=generator)

    def centre_on(self, embeddings: Float[Tensor, "n d"]) -> None:
        """Make the mean of `embeddings` the origin."""
        self.offset.copy_(embeddings.mean(dim=0))

    def centred(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Frozen unit embeddings as `forward` takes them: about the origin, unit again."""
        return F.normalize(embeddings - self.offset, dim=-1)

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Unit embeddings in the shared space, in float32 whatever the layers compute in."""
        with torch.autocast(embeddings.device.type, torch.bfloat16, enabled=self.bf16):
            projected = self.layers(embeddings)
        return F.normalize(projected.float(), dim=-1)


def _mlp2(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    return [
        _linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        _linear(hidden, outputs),
        nn.BatchNorm1d(outputs),
    ]


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Module:
    """A Linear without weights yet; torch would draw them from the global generator."""
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
    return layer.to_empty(device="cpu")
