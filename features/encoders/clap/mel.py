"""Log-mel spectrograms of models with feature fusion, and their four channels.

For sounds that are longer than its window, a fused model sees the spectrogram of the whole
sound, shrunk to the window's frames, and three parts of it (CLAP, section 3.3). The published
code draws the parts at random, one from each third of their possible positions; here each is
the middle of its third. The whole is shrunk bilinearly without antialiasing, as torchvision
0.13, which the checkpoints were trained with, and transformers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class MelSettings:
    """The spectrogram of LAION's audio configurations; frequencies in hertz."""

    sample_rate: int
    window_size: int
    hop_size: int
    mel_bins: int
    fmin: float
    fmax: float


def log_mel(
    samples: Float[torch.Tensor, "n"], settings: MelSettings
) -> Float[torch.Tensor, "frames bands"]:
    """Power in decibels, at least -100, of Hann windows centred every `hop_size` samples.

    The sound is reflected at its ends. Equals torchaudio's MelSpectrogram (HTK, no norm) and
    AmplitudeToDB, which LAION's code uses for fused models.
    """
    spectrum = torch.stft(
        samples,
        settings.window_size,
        settings.hop_size,
        window=torch.hann_window(settings.window_size, device=samples.device),
        return_complex=True,
    )
    power = spectrum.abs().square().T
    mel = power @ mel_filters(settings).T.to(samples.device)
    return 10 * mel.clamp(min=1e-10).log10()


def mel_filters(settings: MelSettings) -> Float[torch.Tensor, "bands bins"]:
    """Triangles of height 1, evenly spaced on HTK's mel scale from fmin to fmax."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (settings.fmin, settings.fmax))
    edges = 700 * (10 ** (np.linspace(low, high, settings.mel_bins + 2) / 2595) - 1)
    bins = np.linspace(0, settings.sample_rate / 2, settings.window_size // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.from_numpy(np.minimum(rising, falling).clip(min=0).astype(np.float32))


def fuse(
    mel: Float[torch.Tensor, "frames bands"], chunk: int
) -> tuple[Float[torch.Tensor, "4 chunk bands"], bool]:
    """The whole spectrogram in `chunk` frames and three parts of it; whether they differ.

    One of just `chunk` frames is all four channels.
    """
    places = len(mel) - chunk + 1
    if places == 1:
        return mel.expand(4, -1, -1), False
    whole = interpolate(mel[None, None], size=(chunk, mel.shape[1]), mode="bilinear")[0, 0]
    parts = [mel[start : start + chunk] for start in chunk_starts(places)]
    return torch.stack([whole, *parts]), True


def chunk_starts(places: int) -> list[int]:
    """The middle of each third of `places` positions; the first where a third is empty."""
    thirds = np.array_split(np.arange(places), 3)
    return [int(third[(len(third) - 1) // 2]) if len(third) else 0 for third in thirds]
