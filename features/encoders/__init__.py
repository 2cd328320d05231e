"""Encoders: what turns raw items of one modality into embeddings of one space.

To add a family: one file beside this one and one line in `ENCODERS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from features.errors import UserError
from features.space import Modality, Space

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray
    from torch import Tensor

# name on the command line -> loader(argument after the colon, device=, precision=)
ENCODERS: dict[str, str] = {
    "mini-clip": "features.encoders.mini.encoder:load_builtin_clip",
    "mini-clap": "features.encoders.mini.encoder:load_builtin_clap",
    "mini-ulip": "features.encoders.mini.encoder:load_builtin_ulip",
    "mini": "features.encoders.mini.encoder:load_file",
}

ItemInput = Callable[["str | Path"], "NDArray[Any]"]


@dataclass(frozen=True)
class EncoderDescription:
    """Everything that decides what an encoder's embeddings are.

    spec: what `load_encoder` takes to load it again.
    weights: hash of the weights. preprocessing: settings between the file and the network.
    modalities: what it embeds.
    """

    name: str
    spec: str
    weights: str
    modalities: tuple[Modality, ...]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON gives it back from a memory's `encoder` attribute."""
        stored: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return stored


class Encoder(Protocol):
    """What extraction and queries need of a pretrained model."""

    @property
    def space(self) -> Space:
        """The space it embeds into."""

    @property
    def description(self) -> EncoderDescription:
        """What it is, for the memories it makes."""

    def input(self, modality: Modality) -> ItemInput:
        """A picklable function from a path, or a sentence, to the array the network takes.

        It runs in worker processes and raises ItemError for an item that cannot be read.
        """

    def encode(self, batch: Sequence[NDArray[Any]], modality: Modality) -> Float[Tensor, "b d"]:
        """Unit-norm float32 embeddings of a batch of such arrays."""


def load_encoder(spec: str, *, device: str = "auto", precision: str = "fp32") -> Encoder:
    """Load the encoder that `spec` names: `NAME`, or `NAME:ARGUMENT` such as `mini:FILE`.

    Raises UserError if there is no such encoder or its weights cannot be read.
    """
    name, _, argument = spec.partition(":")
    if name not in ENCODERS:
        known = ", ".join(f"{one}:FILE" if one == "mini" else one for one in ENCODERS)
        raise UserError(
            f"'{name}' is not an encoder, these are: {known}; embeddings of another model become "
            "a memory with features.memory_write.save_memory"
        )
    module, _, attribute = ENCODERS[name].partition(":")
    load = getattr(import_module(module), attribute)
    encoder: Encoder = load(argument, device=device, precision=precision)
    return encoder


def same_encoder(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two descriptions name the same weights and preprocessing, as far as known."""
    keys = ("weights", "preprocessing")
    return all(one[key] == other[key] for key in keys if key in one and key in other)
