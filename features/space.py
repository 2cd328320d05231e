"""Modalities, and the embedding spaces that pretrained models make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from features.errors import UnknownNameError, UserError
from features.suggest import did_you_mean

Modality = Literal["text", "image", "audio", "points"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


def modality_named(name: str) -> Modality:
    """The modality called `name`.

    Raises UnknownNameError with the known names if there is none.
    """
    for modality in MODALITIES:
        if modality == name:
            return modality
    meant = did_you_mean(str(name), MODALITIES)
    raise UnknownNameError(f"'{name}' is not a modality{meant}: use one of {', '.join(MODALITIES)}")


@dataclass(frozen=True)
class Space:
    """The embedding space of one pretrained model.

    name: what memories and bridges call it, for example `clip` or `mini-clap`.
    dimension: length of its embeddings.
    modalities: what it embeds.
    """

    name: str
    dimension: int
    modalities: tuple[Modality, ...]

    def require(self, modality: Modality) -> None:
        """Raise UserError unless this space embeds `modality`."""
        if modality not in self.modalities:
            raise UserError(
                f"the space {self.name} does not embed {modality}, only "
                f"{', '.join(self.modalities)}: choose another encoder or modality"
            )
