"""Which encoder made embeddings that are imported, as far as it is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import UnknownNameError, UserError
from features.files import require_file
from features.memories.memory import MemoryHeader, StoredDtype
from features.memories.provenance import for_modality
from features.space import modality_named

if TYPE_CHECKING:
    from features.exchange.embedding_file import EmbeddingFile
    from features.space import Modality

_TEXT, _LIST, _OBJECT = (str, "a string"), (list, "a list of strings"), (dict, "an object")
_FIELDS: dict[str, tuple[type, str]] = {  # of a description, as JSON has them
    **dict.fromkeys(("name", "spec", "weights", "precision"), _TEXT),
    "modalities": _LIST,
    **dict.fromkeys(("preprocessing", "versions"), _OBJECT),
}


@dataclass(frozen=True)
class MadeBy:
    """The space of the embeddings and the encoder's description, empty if it is not known.

    dimension: of the space, if it is known.
    """

    space: str
    description: Mapping[str, Any] = field(default_factory=dict)
    dimension: int | None = None


def loaded_encoder(
    spec: str, space: str | None, modality: Modality, *, device: str = "auto"
) -> MadeBy:
    """What the encoder `spec` says about itself, but for the precision and versions here and now.

    Those that the embeddings were made with are not known, and stay empty.
    Raises UserError if it cannot be loaded, does not embed `modality`, or its space is not
    called `space`.
    """
    from features.encoders import load_encoder

    encoder = load_encoder(spec, device=device)
    encoder.space.require(modality)
    encoder.input(modality)  # after it, the description is complete
    if space not in (None, encoder.space.name):
        raise UserError(
            f"--space is {space} but the encoder {spec} embeds into {encoder.space.name}: leave "
            "out --space, or choose another encoder"
        )
    description = {**encoder.description.as_dict(), "precision": "", "versions": {}}
    return MadeBy(encoder.space.name, description, encoder.space.dimension)


def described_by(path: str | Path, space: str) -> MadeBy:
    """What a JSON file says about an encoder, as `EncoderDescription.as_dict` would.

    Fields that are null are not known, others than `as_dict` has are kept as they are.
    Raises UserError if it is not a JSON object that names the encoder, or a field is of another
    type.
    """
    try:
        found = json.loads(require_file(Path(path), "encoder's description").read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): mend it") from error
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise UserError(
            f"{path} does not describe an encoder: give a JSON object with at least its name, and "
            "spec and weights if you know them"
        )
    known = {key: value for key, value in found.items() if value is not None}
    for key, (kind, told) in _FIELDS.items():
        if key in known and not isinstance(known[key], kind):
            raise UserError(
                f"{path} gives the encoder's {key} as {json.dumps(known[key])[:60]} but it is "
                f"{told}: mend it or leave it out"
            )
    for modality in known.get("modalities", ()):
        modality_named(modality)
    return MadeBy(space, known)


def header_for(
    file: EmbeddingFile, made_by: MadeBy, modality: Modality, *, dtype: str | None = None
) -> MemoryHeader:
    """The header of a memory of `file`; float16 stays, others become float32 unless told.

    Raises UserError for a dtype other than float16 and float32, or if the encoder's dimension
    is not the file's.
    """
    if dtype not in (None, "float16", "float32"):
        raise UnknownNameError(f"a memory stores float16 or float32, not '{dtype}'")
    if made_by.dimension not in (None, file.dimension):
        raise UserError(
            f"{file.path} has rows of {file.dimension} numbers but the encoder of {made_by.space} "
            f"embeds into {made_by.dimension} dimensions: choose another encoder or file"
        )
    half = dtype == "float16" or (dtype is None and file.dtype.itemsize == 2)
    stored: StoredDtype = "float16" if half else "float32"
    about = for_modality(made_by.description, modality) if made_by.description else {}
    return MemoryHeader(made_by.space, modality, file.dimension, stored, about)
