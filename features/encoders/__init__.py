"""Encoders: what turns raw items of one modality into embeddings of one space.

To add a family: one file beside this one, one line in `ENCODERS`, and one in
`features.encoders.catalogue`. Other packages add theirs as an entry point of the group
`mcr_bridge.encoders`, or are named as MODULE:ATTRIBUTE; see docs/own-encoders.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from features.errors import UserError
from features.space import Modality, Space

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Bool, Float
    from numpy.typing import NDArray
    from torch import Tensor

# name on the command line -> loader(argument after the colon, device=, precision=)
ENCODERS: dict[str, str] = {
    "clip": "features.encoders.clip.encoder:load_clip",
    "clap": "features.encoders.clap:load_clap",
    "ulip": "features.encoders.ulip:load_ulip",
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


@runtime_checkable
class Encoder(Protocol):
    """What extraction and queries need of a pretrained model."""

    @property
    def space(self) -> Space:
        """The space it embeds into."""

    @property
    def description(self) -> EncoderDescription:
        """What it is, for the memories it makes; complete for a modality after its `input`."""

    def input(self, modality: Modality) -> ItemInput:
        """A picklable function from a path, or a sentence, to the array the network takes.

        It runs in worker processes and raises ItemError for an item that cannot be read. Modules
        that it takes long to import can be named in its `imports`, to import them only once.
        """

    def encode(self, batch: Sequence[NDArray[Any]], modality: Modality) -> Float[Tensor, "b d"]:
        """Unit-norm float32 embeddings of a batch of such arrays."""


@dataclass(frozen=True)
class LocalEmbeddings:
    """Embeddings of the parts of each item (patches, windows), beside those of the wholes.

    pooled: (b, d). local: (b, t, d), unit rows, zero where `mask` (b, t) is false.
    """

    pooled: Float[Tensor, "b d"]
    local: Float[Tensor, "b t d"]
    mask: Bool[Tensor, "b t"]


@runtime_checkable
class LocalEncoder(Encoder, Protocol):
    """An encoder that can also embed the parts of an item."""

    def local_length(self, modality: Modality) -> int:
        """How many parts, t, an item has at most; 0 if this modality has none."""

    def encode_local(self, batch: Sequence[NDArray[Any]], modality: Modality) -> LocalEmbeddings:
        """Embeddings of the items, equal to those of `encode`, and of their parts."""


def load_encoder(
    spec: str, *, device: str = "auto", precision: str = "fp32", own_code: bool = True
) -> Encoder:
    """Load the encoder that `spec` names.

    spec: `NAME` or `NAME:ARGUMENT` of a known family (`clip:ViT-B-32,openai`, `mini:FILE`) or an
    entry point, or `MODULE:ATTRIBUTE[:ARGUMENT]` of a module of the user's.
    own_code: whether it may be the latter; not for a spec that stands in a file.
    Raises UserError if there is no such encoder, its weights cannot be read, or code that is not
    of this package fails.
    """
    from features.encoders.own import find_loader

    load, argument = find_loader(spec, ENCODERS, own_code=own_code)
    return load_with(load, argument, spec, device=device, precision=precision)


def load_with(
    load: Callable[..., Any], argument: str, spec: str, *, device: str, precision: str
) -> Encoder:
    """What the loader and argument of `spec` give. Raises UserError as `load_encoder` does."""
    from features.encoders.own import failed_to_load

    try:
        encoder = load(argument, device=device, precision=precision)
        if isinstance(encoder, Encoder):  # asks for its properties, which may fail as well
            return encoder
    except UserError:
        raise
    except Exception as error:
        if spec.partition(":")[0] in ENCODERS:
            raise
        raise failed_to_load(spec, error) from error
    raise UserError(
        f"{spec} gave a {type(encoder).__name__}, which is no encoder: it needs space, "
        "description, input and encode, see docs/own-encoders.md"
    )
