"""A CLAP network as an encoder: windows of sounds and sentences to unit embeddings.

The embedding of a sound is the normalised mean of the unit embeddings of its windows, which
`encode_local` also gives one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.nn.functional import normalize

from features.device import precision_name
from features.encoders import EncoderDescription, LocalEmbeddings
from features.encoders.clap.inputs import AudioInput, TextInput, dequantise
from features.space import Space

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

    from features.space import Modality

MODALITIES: tuple[Modality, ...] = ("audio", "text")
WINDOWS_AT_ONCE = 32  # through the network, however many a batch has: bounds its memory


class ClapNetwork(Protocol):
    """What the two implementations differ in.

    audio_settings, text_settings: how they prepare their inputs.
    """

    device: torch.device
    dtype: torch.dtype
    dimension: int
    audio_settings: dict[str, Any]
    text_settings: dict[str, Any]
    weights: str

    def embed_sounds(self, sounds: Sequence[NDArray[np.float32]]) -> Float[torch.Tensor, "n d"]:
        """Embeddings of mono sounds, of any length where they are fused, not yet of unit norm."""

    def embed_texts(self, texts: list[str]) -> Float[torch.Tensor, "n d"]:
        """Embeddings of sentences, not yet of unit norm."""


class ClapEncoder:
    """A CLAP network with a fixed choice of windows; a LocalEncoder."""

    def __init__(
        self,
        network: ClapNetwork,
        audio_input: AudioInput,
        *,
        name: str,
        spec: str,
        space: str,
        packages: Sequence[str],
    ) -> None:
        self.network = network
        self.audio_input = audio_input
        self.space = Space(space, network.dimension, MODALITIES)
        self.description = EncoderDescription(
            name=name,
            spec=spec,
            weights=network.weights,
            modalities=MODALITIES,
            preprocessing={
                "audio": {**_window_settings(audio_input), **network.audio_settings},
                "text": network.text_settings,
            },
            precision=precision_name(network.dtype),
            versions={**_versions(packages), "device": network.device.type},
        )

    def input(self, modality: Modality) -> AudioInput | TextInput:
        """From a path to windows (w, samples), or from a sentence to an array () of str."""
        self.space.require(modality)
        return TextInput() if modality == "text" else self.audio_input

    @torch.inference_mode()
    def encode(
        self, batch: Sequence[NDArray[Any]], modality: Modality
    ) -> Float[torch.Tensor, "b d"]:
        """Unit-norm float32 embeddings of a batch of arrays from `input(modality)`."""
        self.space.require(modality)
        if modality == "text":
            texts = self.network.embed_texts([str(text) for text in batch])
            return normalize(texts.float(), dim=-1)
        return _pool(self._embed_windows(batch))

    def local_length(self, modality: Modality) -> int:
        """`max_windows` for sounds in tiles; a single window or a sentence has no parts."""
        tiled = modality == "audio" and self.audio_input.windows == "tiled"
        return self.audio_input.max_windows if tiled else 0

    @torch.inference_mode()
    def encode_local(self, batch: Sequence[NDArray[Any]], modality: Modality) -> LocalEmbeddings:
        """Embeddings of the items and, where `local_length` is not 0, of their windows."""
        length = self.local_length(modality)
        local = torch.zeros(len(batch), length, self.space.dimension, device=self.network.device)
        mask = torch.zeros(len(batch), length, dtype=torch.bool, device=self.network.device)
        if length == 0:
            return LocalEmbeddings(self.encode(batch, modality), local, mask)
        embedded = self._embed_windows(batch)
        for i, windows in enumerate(embedded):
            local[i, : len(windows)] = windows
            mask[i, : len(windows)] = True
        return LocalEmbeddings(_pool(embedded), local, mask)

    def _embed_windows(
        self, batch: Sequence[NDArray[Any]]
    ) -> tuple[Float[torch.Tensor, "w d"], ...]:
        """Unit embeddings of the windows of each item."""
        windows = list(chain.from_iterable(batch))
        rows = [
            self.network.embed_sounds([dequantise(one) for one in windows[i : i + WINDOWS_AT_ONCE]])
            for i in range(0, len(windows), WINDOWS_AT_ONCE)
        ]
        unit = normalize(torch.cat(rows).float(), dim=-1)
        return tuple(torch.split(unit, [len(item) for item in batch]))


def _pool(windows: Iterable[Float[torch.Tensor, "w d"]]) -> Float[torch.Tensor, "b d"]:
    return normalize(torch.stack([unit.mean(dim=0) for unit in windows]), dim=-1)


def _window_settings(audio_input: AudioInput) -> dict[str, Any]:
    many = audio_input.windows != "centre"
    return {
        "sample_rate": audio_input.sample_rate,
        "window_seconds": audio_input.window / audio_input.sample_rate,
        "windows": audio_input.windows,
        **({"max_windows": audio_input.max_windows} if many else {}),
        "quantisation": "int16" if audio_input.quantised else "none",
    }


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {"torch": str(torch.__version__)}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # imported from a folder that was never installed
            found[package] = "unknown"
    return found
