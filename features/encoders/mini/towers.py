"""The networks of the mini encoders: a stem per modality, one trunk for all.

A stem turns a batch of arrays into tokens that know their place; the trunk is a small
pre-norm transformer; the embedding is a linear map of the mean token, so that it adds up
from what the parts say, and a number never seen is made of digits that were.

Axes: b items, t tokens, w width, d dimension of the embeddings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from features.encoders.mini.config import MiniConfig
    from features.space import Modality

Tokens = tuple[Float[Tensor, "b t w"], "Bool[Tensor, 'b t'] | None"]  # and which are padding


class Tower(nn.Module):
    """One modality's encoder: stem, trunk, mean over tokens, linear map, unit norm."""

    def __init__(self, modality: Modality, config: MiniConfig) -> None:
        super().__init__()
        stems = {"text": TextStem, "image": ImageStem, "audio": AudioStem, "points": PointStem}
        self.stem: nn.Module = stems[modality](config)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            dim_feedforward=2 * config.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.trunk = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.dimension, bias=False)

    def forward(self, inputs: Tensor) -> Float[Tensor, "b d"]:
        """Unit-norm embeddings of a batch of arrays from `inputs.MiniInput`."""
        tokens, padding = self.tokens(inputs)
        return self.pool(tokens, padding)

    def tokens(self, inputs: Tensor) -> Tokens:
        """What the trunk makes of a batch of arrays."""
        tokens, padding = self.stem(inputs)
        return self.norm(self.trunk(tokens, src_key_padding_mask=padding)), padding

    def pool(
        self, tokens: Float[Tensor, "b t w"], padding: Bool[Tensor, "b t"] | None
    ) -> Float[Tensor, "b d"]:
        """Unit-norm embeddings of the mean tokens."""
        if padding is None:
            pooled = tokens.mean(dim=1)
        else:
            kept = (~padding).unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * kept).sum(dim=1) / kept.sum(dim=1)
        return F.normalize(self.head(pooled), dim=-1)

    def embed_tokens(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t d"]:
        """Unit-norm embeddings of each token by itself: their means make up the whole's."""
        return F.normalize(self.head(tokens), dim=-1)


class TextStem(nn.Module):
    """Word and place embeddings."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocabulary, config.width)
        self.place = nn.Parameter(torch.randn(config.words, config.width) * 0.02)

    def forward(self, words: Tensor) -> Tokens:
        """Tokens of word buckets (b, words), and where there is no word."""
        words = words.long()
        return self.word(words) + self.place, words == 0


class ImageStem(nn.Module):
    """Three strided convolutions: one token for every 8 x 8 pixels."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(12, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, config.width, 3, stride=2, padding=1),
        )
        places = (config.image_height // 8) * (config.image_width // 8)
        self.place = nn.Parameter(torch.randn(places, config.width) * 0.02)

    def forward(self, grey: Tensor) -> Tokens:
        """Tokens of pictures (b, height, width) with grey levels from 0 to 255."""
        grey = grey.unsqueeze(1).to(self.place.dtype) / 127.5 - 1
        return self.convolutions(grey).flatten(2).transpose(1, 2) + self.place, None


class AudioStem(nn.Module):
    """Log-mel frames of 32 ms every 16 ms, four of them a token."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.window_samples = round(0.032 * config.sample_rate)
        self.hop_samples = self.window_samples // 2
        frames = 1 + config.samples // self.hop_samples
        self.convolutions = nn.Sequential(
            nn.Conv1d(config.mel_bands, config.width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv1d(config.width, config.width, 3, stride=2, padding=1),
        )
        self.place = nn.Parameter(torch.randn((frames + 3) // 4, config.width) * 0.02)
        filters = mel_filters(config.mel_bands, self.window_samples, config.sample_rate)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_samples), persistent=False)
        self.filters: Tensor
        self.window: Tensor

    def forward(self, samples: Tensor) -> Tokens:
        """Tokens of sounds (b, samples) at unit peak."""
        spectrum = torch.stft(
            samples.float(),
            self.window_samples,
            self.hop_samples,
            window=self.window.float(),
            return_complex=True,
        )
        power = spectrum.abs().square()
        mel = torch.log(self.filters.float() @ power + 1e-5) / 4 + 1
        return self.convolutions(mel.to(self.place.dtype)).transpose(1, 2) + self.place, None


class PointStem(nn.Module):
    """Groups of neighbouring points, each through a small PointNet (Point-BERT's stem)."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.groups, self.group_points = config.point_groups, config.group_points
        self.point = nn.Sequential(nn.Linear(3, 32), nn.GELU(), nn.Linear(32, 64))
        self.shape = nn.Sequential(nn.Linear(128, 64), nn.GELU(), nn.Linear(64, config.width))
        self.place = nn.Sequential(
            nn.Linear(3, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )

    def forward(self, xyz: Tensor) -> Tokens:
        """Tokens of clouds (b, points, 3), centred, largest norm 1."""
        xyz, dtype = xyz.float(), next(self.parameters()).dtype
        centres = farthest_points(xyz, self.groups)
        nearest = torch.cdist(centres, xyz).topk(self.group_points, largest=False).indices
        items = torch.arange(len(xyz), device=xyz.device)[:, None, None]
        offsets = (xyz[items, nearest] - centres.unsqueeze(2)) * 8  # to about unit size
        each = self.point(offsets.to(dtype))
        whole = each.amax(dim=2, keepdim=True).expand_as(each)
        shapes = self.shape(torch.cat([whole, each], dim=-1)).amax(dim=2)
        return shapes + self.place(centres.to(dtype)), None


def farthest_points(xyz: Float[Tensor, "b n 3"], count: int) -> Float[Tensor, "b count 3"]:
    """Farthest point sampling, starting at the first point of every cloud."""
    items = torch.arange(len(xyz), device=xyz.device)
    chosen = torch.zeros(len(xyz), count, dtype=torch.long, device=xyz.device)
    distance = torch.full(xyz.shape[:2], torch.inf, dtype=xyz.dtype, device=xyz.device)
    for step in range(1, count):
        last = xyz[items, chosen[:, step - 1]].unsqueeze(1)
        distance = torch.minimum(distance, (xyz - last).square().sum(dim=-1))
        chosen[:, step] = distance.argmax(dim=1)
    return xyz[items.unsqueeze(1), chosen]


def mel_filters(bands: int, window_samples: int, sample_rate: int) -> Float[Tensor, "bands bins"]:
    """Triangular filters, evenly spaced on the mel scale (HTK) from 50 Hz to Nyquist."""
    bins = torch.linspace(0, sample_rate / 2, window_samples // 2 + 1)

    def to_mel(hertz: Tensor) -> Tensor:
        return 2595 * torch.log10(1 + hertz / 700)

    low, high = to_mel(torch.tensor([50.0, sample_rate / 2]))
    edges = 700 * (10 ** (torch.linspace(float(low), float(high), bands + 2) / 2595) - 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)
