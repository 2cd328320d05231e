"""The mini encoders as encoders: loading, describing themselves, embedding batches.

A weights file is safetensors with the towers' tensors as `MODALITY.NAME` and the
configuration as JSON in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from features.device import precision_name, resolve_device, resolve_precision
from features.encoders import EncoderDescription, LocalEmbeddings
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.inputs import MiniInput
from features.encoders.mini.towers import Tower
from features.errors import UserError
from features.files import replacing, require_file
from features.parsing import parse_json
from features.sealed import sealed, unsealed
from features.tensors import tensors_hash

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

    from features.space import Modality, Space

FORMAT = "mcr-bridge mini encoder 1"
WEIGHTS = Path(__file__).parent / "weights"


class MiniEncoder:
    """Small towers, one for each modality of the space, ready to embed."""

    def __init__(
        self,
        config: MiniConfig,
        towers: Mapping[Modality, Tower],
        *,
        spec: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config = config
        self.device = device
        self.description = EncoderDescription(
            name=config.name,
            spec=spec,
            weights=weights_hash(towers),
            modalities=config.modalities,
            preprocessing=asdict(config),
            precision=precision_name(dtype),
            versions={"torch": torch.__version__, "device": device.type},
        )
        self.towers = {
            modality: tower.to(device=device, dtype=dtype).eval()
            for modality, tower in towers.items()
        }

    @property
    def space(self) -> Space:
        """The space it embeds into."""
        return self.config.space

    def input(self, modality: Modality) -> MiniInput:
        """The function from a path or sentence to the array that `encode` takes."""
        self.space.require(modality)
        return MiniInput(self.config, modality)

    @torch.inference_mode()
    def encode(
        self, batch: Sequence[NDArray[Any]], modality: Modality
    ) -> Float[torch.Tensor, "b d"]:
        """Unit-norm float32 embeddings of a batch of arrays from `input(modality)`."""
        self.space.require(modality)
        inputs = torch.from_numpy(np.stack(batch)).to(self.device)
        return torch.nn.functional.normalize(self.towers[modality](inputs).float(), dim=-1)

    def local_length(self, modality: Modality) -> int:
        """Tokens of an item at most: words, patches of 8 x 8 pixels, frames, point groups."""
        return self.config.tokens(modality)

    @torch.inference_mode()
    def encode_local(self, batch: Sequence[NDArray[Any]], modality: Modality) -> LocalEmbeddings:
        """Embeddings of the items and of their tokens, through the same linear map."""
        self.space.require(modality)
        tower, inputs = self.towers[modality], torch.from_numpy(np.stack(batch)).to(self.device)
        tokens, padding = tower.tokens(inputs)
        there = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        mask = there if padding is None else ~padding
        local = torch.nn.functional.normalize(tower.embed_tokens(tokens).float(), dim=-1)
        pooled = torch.nn.functional.normalize(tower.pool(tokens, padding).float(), dim=-1)
        return LocalEmbeddings(pooled, local * mask.unsqueeze(-1), mask)


def load_file(
    path: str, *, device: str = "auto", precision: str = "fp32", spec: str | None = None
) -> MiniEncoder:
    """Load the weights file at `path`. Raises UserError if it is missing, damaged or another."""
    if not path:
        raise UserError("the encoder 'mini' needs its weights file: write mini:FILE.safetensors")
    config, tensors = _read(require_file(Path(path), "encoder weights"))
    try:
        for modality in config.modalities:
            _require_sizes(config, modality, tensors)
        towers = {modality: Tower(modality, config) for modality in config.modalities}
        for modality, tower in towers.items():
            mine = {k: v for k, v in tensors.items() if k.startswith(f"{modality}.")}
            tower.load_state_dict({k.removeprefix(f"{modality}."): v for k, v in mine.items()})
    except (RuntimeError, ZeroDivisionError) as error:  # the latter for sound of a few hertz
        raise UserError(
            f"{path} does not hold the tensors of the encoder it describes: fit the encoder again"
        ) from error
    return MiniEncoder(
        config,
        towers,
        spec=spec or f"mini:{Path(path).resolve()}",
        device=resolve_device(device),
        dtype=resolve_precision(precision),
    )


def _require_sizes(
    config: MiniConfig, modality: Modality, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Raise RuntimeError unless the tensors are as large as described, before such are allocated.

    Only what decides how much that is; the rest is compared when they are loaded.
    """
    claimed: dict[str, tuple[int, ...]] = {"head.weight": (config.dimension, config.width)}
    if modality != "points":
        claimed["stem.place"] = (config.tokens(modality), config.width)
    if modality == "text":
        claimed["stem.word.weight"] = (config.vocabulary, config.width)
    if modality == "audio":
        claimed["stem.convolutions.0.weight"] = (config.width, config.mel_bands, 3)
    for name, shape in claimed.items():
        found = tensors.get(f"{modality}.{name}")
        if found is None or found.shape != shape:
            raise RuntimeError(f"its {modality}.{name} is not {shape}")
    if f"{modality}.trunk.layers.{config.layers - 1}.norm1.weight" not in tensors:
        raise RuntimeError(f"it has fewer layers than {config.layers}")


def load_builtin_clip(argument: str, *, device: str, precision: str) -> MiniEncoder:
    """The `mini-clip` that comes with the package: images and text of keypad numbers."""
    return _load_builtin("mini-clip", argument, device, precision)


def load_builtin_clap(argument: str, *, device: str, precision: str) -> MiniEncoder:
    """The `mini-clap` that comes with the package: sounds and text of keypad numbers."""
    return _load_builtin("mini-clap", argument, device, precision)


def load_builtin_ulip(argument: str, *, device: str, precision: str) -> MiniEncoder:
    """The `mini-ulip` that comes with the package: point clouds, images and text."""
    return _load_builtin("mini-ulip", argument, device, precision)


def _load_builtin(name: str, argument: str, device: str, precision: str) -> MiniEncoder:
    if argument:
        raise UserError(f"the encoder '{name}' takes no argument: for a file write mini:FILE")
    path = WEIGHTS / f"{name}.safetensors"
    return load_file(str(path), device=device, precision=precision, spec=name)


def save_mini(path: Path, config: MiniConfig, towers: Mapping[Modality, Tower]) -> None:
    """Write a weights file, tensors in float16. Raises UserError if it cannot be written."""
    tensors = {
        f"{modality}.{name}": tensor.detach().half().cpu().contiguous()
        for modality, tower in towers.items()
        for name, tensor in tower.state_dict().items()
    }
    # One key: safetensors writes several in random order, and equal weights in equal bytes.
    about = sealed({"format": FORMAT, "config": asdict(config), "weights": tensors_hash(tensors)})
    metadata = {"mini_encoder": json.dumps(about)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def weights_hash(towers: Mapping[Modality, Tower]) -> str:
    """Hash of all weights, the same on every machine."""
    digest = xxhash.xxh3_128()
    for modality in sorted(towers):
        for name, tensor in sorted(towers[modality].state_dict().items()):
            digest.update(f"{modality}.{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return str(digest.hexdigest())


def _read(path: Path) -> tuple[MiniConfig, dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as encoder weights ({error}): fit the encoder again"
        ) from error
    try:
        described = unsealed(parse_json(metadata.get("mini_encoder", "{}")))
        if described.get("weights", "") not in ("", tensors_hash(tensors)):
            raise ValueError("its weights are not what was written")
        if described.get("format") != FORMAT:
            raise UserError(f"{path} is not a mini encoder: make one with `mcr fit`")
        settings = described["config"]
        config = MiniConfig(**{**settings, "modalities": tuple(settings["modalities"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): copy it again, or fit the encoder again"
        ) from error
    return config, {name: tensor.float() for name, tensor in tensors.items()}
