"""The ULIP encoder: its space, its description, and embedding batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from features.device import precision_name, resolve_precision
from features.encoders import EncoderDescription
from features.encoders.ulip.image import normalise_pixels
from features.encoders.ulip.inputs import ImageInput, PointsInput, TextInput, clip_tokenizer
from features.encoders.ulip.settings import PointSettings, preprocessing
from features.errors import UserError
from features.space import Space

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

    from features.encoders import Encoder, ItemInput
    from features.space import Modality

OPEN_CLIP_DIMENSION = 1280
OPEN_CLIP = "ViT-bigG-14,laion2b_s39b_b160k"
MOST_CLOUDS = 64  # at a time: their 513 tokens take 200 MB in the widest layer


class UlipEncoder:
    """The towers of a ULIP checkpoint, ready to embed.

    partner: of the 1280-d model, what `load_clip` takes to load the OpenCLIP model that embeds
    its images and texts, when one is first asked for; it has gigabytes. Only then does the
    description tell its weights and preprocessing.
    """

    def __init__(
        self,
        towers: Mapping[Modality, nn.Module],
        *,
        dimension: int,
        settings: PointSettings,
        space: str | None,
        partner: str | None,
        spec: str,
        weights: str,
        device: torch.device,
        precision: str,
    ) -> None:
        modalities: tuple[Modality, ...] = tuple(towers)
        steps: dict[str, Any] = {one: preprocessing(one, settings) for one in modalities}
        if partner is not None:
            modalities = ("points", "image", "text")
        default = "ulip" if partner is None else "ulip2"
        self.space = Space(space or default, dimension, modalities)
        self.settings = settings
        self.device = device
        self._partner_argument = partner
        self._precision = precision
        dtype = resolve_precision(precision)
        self.towers = {
            modality: tower.to(device=device, dtype=dtype).eval()
            for modality, tower in towers.items()
        }
        self.description = EncoderDescription(
            name="ulip",
            spec=spec,
            weights=weights,
            modalities=modalities,
            preprocessing=steps,
            precision=precision_name(dtype),
            versions={"torch": torch.__version__, "device": device.type},
        )

    def input(self, modality: Modality) -> ItemInput:
        """The function from a path or sentence to the array that `encode` takes."""
        self.space.require(modality)
        if modality not in self.towers:
            return self._partner.input(modality)
        if modality == "points":
            return PointsInput(self.settings)
        if modality == "image":
            return ImageInput()
        clip_tokenizer()  # a missing package is the user's to install, not each text's failure
        return TextInput()

    @torch.inference_mode()
    def encode(
        self, batch: Sequence[NDArray[Any]], modality: Modality
    ) -> Float[torch.Tensor, "b d"]:
        """Unit-norm float32 embeddings of a batch of arrays from `input(modality)`."""
        self.space.require(modality)
        if modality not in self.towers:
            return self._partner.encode(batch, modality)
        tower = self.towers[modality]
        if modality == "points":
            embeddings = self._clouds(batch)
        elif modality == "image":
            embeddings = tower(normalise_pixels(self._tensor(batch)))
        else:
            embeddings = tower(self._tensor(batch))
        return normalize(embeddings.float(), dim=-1)

    @cached_property
    def _partner(self) -> Encoder:
        from features.encoders.clip.encoder import load_clip

        partner = load_clip(
            str(self._partner_argument), device=str(self.device), precision=self._precision
        )
        if partner.space.dimension != self.space.dimension:
            raise UserError(
                f"clip:{self._partner_argument} has {partner.space.dimension} dimensions but this "
                f"ULIP checkpoint has {self.space.dimension}: give the model it was trained with, "
                f"clip:{OPEN_CLIP}"
            )
        theirs = partner.description
        mine = {
            one: {**theirs.preprocessing[one], "weights": theirs.weights}
            | {"activation": theirs.preprocessing["activation"]}
            for one in ("image", "text")
        }
        steps = {**self.description.preprocessing, **mine}
        self.description = replace(self.description, preprocessing=steps)
        return partner

    def _clouds(self, batch: Sequence[NDArray[Any]]) -> Float[torch.Tensor, "b d"]:
        """Embeddings of clouds, those of equally many points together."""
        by_size: dict[int, list[int]] = {}
        for row, cloud in enumerate(batch):
            by_size.setdefault(len(cloud), []).append(row)
        rows, parts = [], []
        for same in by_size.values():
            for some in (same[i : i + MOST_CLOUDS] for i in range(0, len(same), MOST_CLOUDS)):
                parts.append(self.towers["points"](self._tensor([batch[row] for row in some])))
                rows += some
        return torch.cat(parts)[np.argsort(rows)]

    def _tensor(self, batch: Sequence[NDArray[Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(batch)).to(self.device)
