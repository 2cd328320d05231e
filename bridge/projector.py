"""Projectors: tiny networks from one frozen space into the shared space.

Axes: n items, d dimensions of the frozen space, e of the shared one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bridge.methods.anchors import Posterior, Similarities
from bridge.training.distributed import Ranks
from bridge.training.layers import BatchNorm, Linear, unit
from features.errors import UserError
from features.space import Modality

Shape = Literal["mlp2", "mlp1", "linear", "exmcr", "identity", "relative", "routing", "mixture"]


@dataclass(frozen=True)
class ProjectorSpec:
    """What to build before weights are loaded into it; it travels as JSON.

    shape: see `Projector`, and `Mixture` for `mixture`. outputs: width of what it gives.
    modalities: those that are centred on means of their own.
    parts: of a mixture.
    """

    shape: Shape
    inputs: int
    outputs: int
    hidden: int = 0
    modalities: tuple[Modality, ...] = ()
    parts: tuple[ProjectorSpec, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON; without what is empty."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> ProjectorSpec:
        """Raises KeyError, TypeError or ValueError for what `as_dict` does not write."""
        if described["shape"] not in get_args(Shape):
            raise KeyError(f"the projector '{described['shape']}'")
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in described.items()
        }
        parts = tuple(cls.from_dict(part) for part in described.get("parts", ()))
        spec = cls(**{**values, "parts": parts})
        if min(spec.inputs, spec.outputs) < 1 or spec.hidden < 0:
            raise ValueError(f"a projector of {spec.inputs} x {spec.hidden} x {spec.outputs}")
        if spec.shape == "mixture" and not parts:
            raise ValueError("a mixture without parts")
        return spec

    def build(self, generator: torch.Generator) -> Projector | Mixture:
        """The projector, its initial weights from `generator`."""
        if self.shape == "mixture":
            equal = [1 / len(self.parts)] * len(self.parts)
            return Mixture([part.build(generator) for part in self.parts], equal)
        return Projector(
            self.shape,
            inputs=self.inputs,
            outputs=self.outputs,
            hidden=self.hidden,
            modalities=self.modalities,
            generator=generator,
        )


class Projector(nn.Module):
    """Maps centred unit embeddings of one space to unit embeddings of the shared space.

    mlp2: Linear, BatchNorm, ReLU, Linear, BatchNorm (C-MCR's CLIP-CLAP).
    mlp1: Linear, BatchNorm, ReLU (C-MCR's CLIP-ULIP).
    linear: one Linear without bias.
    exmcr: Linear, then mlp2 twice (Ex-MCR, arXiv 2310.08884).
    identity: nothing, for the space that the others are projected into (Ex-MCR's CLIP).
    relative, routing: by the hub items that it resembles (see `bridge.methods.anchors`).

    Two kinds of points are made the origin by `centred`: `offset` (d,), zero unless `centre_on`
    sets it, and `offset_MODALITY` for the modalities that have a mean of their own.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        inputs: int,
        outputs: int,
        hidden: int,
        generator: torch.Generator,
        modalities: Sequence[Modality] = (),
    ) -> None:
        """Initial weights come from `generator`, uniform as torch's own Linear has them."""
        super().__init__()
        self.spec = ProjectorSpec(shape, inputs, outputs, hidden, tuple(modalities))
        self.register_buffer("offset", torch.zeros(inputs))
        self.offset: Tensor
        for modality in modalities:
            self.register_buffer(f"offset_{modality}", torch.zeros(inputs))
        self.bf16 = False  # train the layers in bfloat16, weights stay float32
        layers: dict[Shape, Callable[[], list[nn.Module]]] = {
            "mlp2": lambda: _mlp2(inputs, hidden, outputs),
            "mlp1": lambda: [_linear(inputs, outputs), BatchNorm(outputs), nn.ReLU()],
            "linear": lambda: [_linear(inputs, outputs, bias=False)],
            "exmcr": lambda: [
                _linear(inputs, outputs),
                *_mlp2(outputs, hidden, outputs),
                *_mlp2(outputs, hidden, outputs),
            ],
            "identity": list,
            "relative": lambda: [Similarities(torch.zeros(outputs, inputs))],
            "routing": lambda: [Posterior(torch.zeros(outputs, inputs), 1.0)],
        }
        self.layers = nn.Sequential(*layers[shape]())
        with torch.no_grad():
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    bound = layer.in_features**-0.5
                    for parameter in layer.parameters():
                        parameter.uniform_(-bound, bound, generator=generator)

    def centre_on(self, embeddings: Float[Tensor, "n d"], modality: Modality | None = None) -> None:
        """Make the mean of `embeddings` the origin, of all or of one of the modalities."""
        self._offset(modality).copy_(embeddings.mean(dim=0))

    def centred(
        self, embeddings: Float[Tensor, "n d"], modality: Modality | None = None
    ) -> Float[Tensor, "n d"]:
        """Frozen unit embeddings as `forward` takes them: about the origin, unit again.

        Raises UserError if modalities have means of their own and none is named.
        """
        if self.spec.modalities and modality is None:
            raise UserError(
                f"this bridge subtracts the mean of each modality (of "
                f"{', '.join(self.spec.modalities)}) and none was named: pass modality="
            )
        return F.normalize(embeddings - self._offset(modality), dim=-1)

    def project(
        self, embeddings: Float[Tensor, "n d"], modality: Modality | None = None
    ) -> Float[Tensor, "n e"]:
        """Frozen unit embeddings of one modality in the shared space."""
        projected: Tensor = self(self.centred(embeddings, modality))
        return projected

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Unit embeddings in the shared space, in float32 whatever the layers compute in."""
        bf16 = self.bf16 and self.training  # what is measured or kept is in full precision
        with torch.autocast(embeddings.device.type, torch.bfloat16, enabled=bf16):
            projected = self.layers(embeddings)
        return unit(projected.float())

    def train_among(self, ranks: Ranks) -> None:
        """Normalise batches by the statistics of all processes' rows."""
        for layer in self.layers:
            if isinstance(layer, BatchNorm):
                layer.ranks = ranks

    def _offset(self, modality: Modality | None) -> Tensor:
        named = modality in self.spec.modalities
        offset: Tensor = getattr(self, f"offset_{modality}") if named else self.offset
        return offset


class Mixture(nn.Module):
    """Several projectors of one space side by side, so that similarities are averaged.

    With outputs `f_k` and weights `w_k` that sum to 1, it gives the unit rows
    `[sqrt(w_1) f_1, sqrt(w_2) f_2, ...]`: their inner products are `sum_k w_k <f_k, g_k>`.
    """

    spec: ProjectorSpec

    def __init__(self, parts: Sequence[Projector | Mixture], weights: Sequence[float]) -> None:
        super().__init__()
        self._parts = tuple(parts)
        self.parts = nn.ModuleList(parts)  # whose tensors are saved
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.weights: Tensor
        specs: tuple[ProjectorSpec, ...] = tuple(part.spec for part in parts)
        self.spec = ProjectorSpec(
            "mixture",
            inputs=specs[0].inputs,
            outputs=sum(spec.outputs for spec in specs),
            parts=specs,
        )

    def project(
        self, embeddings: Float[Tensor, "n d"], modality: Modality | None = None
    ) -> Float[Tensor, "n e"]:
        """Frozen unit embeddings of one modality in the shared space."""
        weighted = [
            weight * part.project(embeddings, modality)
            for part, weight in zip(self._parts, self.weights.sqrt(), strict=True)
        ]
        return torch.cat(weighted, dim=-1)


AnyProjector = Projector | Mixture


def _mlp2(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    return [
        _linear(inputs, hidden),
        BatchNorm(hidden),
        nn.ReLU(),
        _linear(hidden, outputs),
        BatchNorm(outputs),
    ]


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Module:
    """A Linear without weights yet; torch would draw them from the global generator."""
    layer = Linear(inputs, outputs, bias=bias, device="meta")
    for name, parameter in list(layer.named_parameters()):
        # As `to_empty`, which imports sympy for half a second.
        setattr(layer, name, nn.Parameter(torch.empty(parameter.shape)))
    return layer
