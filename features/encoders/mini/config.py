"""What a mini encoder is made of; stored as JSON in its weights file."""

from __future__ import annotations

from dataclasses import dataclass, fields

from features.space import MODALITIES, Modality, Space

_LARGEST = 1 << 20  # of every size, and so
_MOST_WEIGHTS = 1 << 28  # those that are allocated before they are compared with the file's


@dataclass(frozen=True)
class MiniConfig:
    """Sizes of a mini encoder. Everything that changes an embedding is here or a weight."""

    name: str  # the space's name
    modalities: tuple[Modality, ...]
    dimension: int = 128  # of the embeddings
    width: int = 64  # of the tokens
    layers: int = 2
    heads: int = 4
    image_height: int = 32  # pixels; a multiple of 8
    image_width: int = 64
    sample_rate: int = 8000  # hertz
    seconds: float = 1.0  # of sound; longer sounds are cut at both ends, shorter ones padded
    mel_bands: int = 64
    points: int = 256  # of a cloud, chosen evenly along the file
    point_groups: int = 32
    group_points: int = 16
    words: int = 16  # longer sentences are cut
    vocabulary: int = 2048  # hash buckets

    def __post_init__(self) -> None:
        """Raises ValueError for a size that no weights file has."""
        for one in fields(self):
            value = getattr(self, one.name)
            if one.type == "int" and not (type(value) is int and 0 < value <= _LARGEST):
                raise ValueError(f"{one.name} is {value!r}, not a number from 1 to {_LARGEST}")
        if not isinstance(self.name, str) or not 0 < self.seconds <= _LARGEST:
            raise ValueError(f"its name is {self.name!r}, and it hears {self.seconds!r} s")
        if self.width % self.heads or self.width * self.vocabulary * self.layers > _MOST_WEIGHTS:
            raise ValueError(f"it has {self.heads} heads and a width of {self.width}")
        for modality in self.modalities:
            if modality not in MODALITIES:
                raise ValueError(f"it embeds {modality!r}")

    @property
    def space(self) -> Space:
        """The space that these encoders embed into."""
        return Space(self.name, self.dimension, self.modalities)

    @property
    def samples(self) -> int:
        """Length of the sound window in samples."""
        return round(self.seconds * self.sample_rate)

    def tokens(self, modality: Modality) -> int:
        """How many tokens an item of the modality is made of, at most."""
        frames = 1 + self.samples // (round(0.032 * self.sample_rate) // 2)
        return {
            "text": self.words,
            "image": (self.image_height // 8) * (self.image_width // 8),
            "audio": (frames + 3) // 4,
            "points": self.point_groups,
        }[modality]
