"""CLAP by LAION's package: published or local checkpoints, fused and unfused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from features.device import resolve_device, resolve_precision
from features.encoders.clap.encoder import ClapEncoder
from features.encoders.clap.inputs import AudioInput, choose_windows, fill_window
from features.encoders.clap.laion_model import (
    LaionClap,
    build_laion,
    check_options,
    quietly,
    read_shape,
)
from features.encoders.clap.mel import MelSettings, fuse, log_mel
from features.encoders.clap.precision import FullPrecision, casting, exact_convolutions
from features.encoders.clap.tokens import roberta_folder, roberta_tokenizer, vocabulary_hash
from features.encoders.hub import hub_access
from features.encoders.spec import Argument, space_name
from features.errors import UserError
from features.extras import install_line, installed
from features.tensors import load_exactly, read_state, tensors_hash

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

REPOSITORY = "lukewys/laion_clap"
TEXT_TOKENS = 77
NOT_LOADED = "text_branch.embeddings.position_ids"  # a buffer of older transformers
PACKAGES = ("laion_clap", "transformers")


def load_laion(
    argument: Argument, published: str | None, *, device: str, precision: str
) -> ClapEncoder:
    """Load a checkpoint by its published name, or the file that `argument` names.

    Raises UserError if it cannot be had, read, or does not fit the options.
    """
    for package in PACKAGES:
        if not installed(package):
            raise UserError(f"CLAP needs the package {package}: {install_line(package)}")
    on, dtype = resolve_device(device), resolve_precision(precision)
    space = space_name(argument, "clap")
    path = _download(published) if published else Path(argument.path)
    tensors = read_state(path, "CLAP weights")
    tensors.pop(NOT_LOADED, None)
    shape = read_shape(tensors, path)
    check_options(argument, shape, path)
    windows, max_windows = choose_windows(argument, fused=shape.fused)
    folder = roberta_folder(argument.options.get("roberta"))
    model = build_laion(shape, tensors)
    load_exactly(model, tensors, path)
    with quietly():
        tokenizer = roberta_tokenizer(folder, model.text_branch.config.vocab_size)
    network = LaionNetwork(model, tokenizer, weights=tensors_hash(tensors), device=on, dtype=dtype)
    audio_input = AudioInput(
        sample_rate=model.audio_settings["sample_rate"],
        window=network.window,
        windows=windows,
        max_windows=max_windows,
        quantised=True,
    )
    return ClapEncoder(
        network,
        audio_input,
        name=f"laion-clap {published or path.stem}",
        spec=_spec(argument, published or str(path.resolve())),
        space=space,
        packages=PACKAGES,
    )


class LaionNetwork:
    """LAION's network on a device, from samples and sentences to embeddings."""

    def __init__(
        self,
        model: LaionClap,
        tokenizer: Any,
        *,
        weights: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.device, self.dtype, self.weights = device, dtype, weights
        self.dimension = model.joint_width
        self.window: int = model.audio_settings["clip_samples"]
        self.audio_settings = {"padding": "repeatpad", "fusion": model.fused}
        self.text_settings = {"tokens": TEXT_TOKENS, "vocabulary": vocabulary_hash(tokenizer)}
        self._tokenizer = tokenizer
        self._model = model.to(device)
        audio = model.audio_branch
        audio.patch_embed = FullPrecision(audio.patch_embed)
        self._mel = MelSettings(
            **{name: model.audio_settings[name] for name in MelSettings.__dataclass_fields__}
        )

    def embed_sounds(self, sounds: Sequence[NDArray[np.float32]]) -> Float[torch.Tensor, "n d"]:
        """Embeddings of mono sounds; longer ones than the window only if the model is fused."""
        branch = self._model.audio_branch
        with exact_convolutions():
            mel, longer = self._spectrograms(sounds)
            # What the branch's own forward does up to its transformer, in float32.
            normal = branch.bn0(mel.transpose(1, 3)).transpose(1, 3)
            image = branch.reshape_wav2img(normal)
            with casting(self.device, self.dtype):
                found = branch.forward_features(image, longer_idx=longer)["embedding"]
                return self._model.audio_projection(found)  # type: ignore[no-any-return]

    def embed_texts(self, texts: list[str]) -> Float[torch.Tensor, "n d"]:
        """Embeddings of sentences, cut after 77 tokens."""
        tokens: Mapping[str, torch.Tensor] = self._tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=TEXT_TOKENS,
            return_tensors="pt",
        )
        with casting(self.device, self.dtype):
            found = self._model.text_branch(
                input_ids=tokens["input_ids"].to(self.device),
                attention_mask=tokens["attention_mask"].to(self.device),
            )["pooler_output"]
            return self._model.text_projection(found)  # type: ignore[no-any-return]

    def _spectrograms(
        self, sounds: Sequence[NDArray[np.float32]]
    ) -> tuple[Float[torch.Tensor, "n channels frames bands"], list[int]]:
        """Log-mel spectrograms, four channels if fused, and which sounds outlast the window."""
        filled = [torch.from_numpy(fill_window(one, self.window)) for one in sounds]
        branch = self._model.audio_branch
        if not self._model.fused:
            waves = torch.stack(filled).to(self.device)
            return branch.logmel_extractor(branch.spectrogram_extractor(waves)), []
        chunk = self.window // self._mel.hop_size + 1
        fused = [fuse(log_mel(one.to(self.device), self._mel), chunk) for one in filled]
        return torch.stack([mel for mel, _ in fused]), [i for i, one in enumerate(fused) if one[1]]


def _download(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    remedy = f"download {name}.pt from {REPOSITORY} and give its path, clap:PATH"
    with hub_access(f"the checkpoint {name}", remedy):
        return Path(hf_hub_download(REPOSITORY, f"{name}.pt"))


def _spec(argument: Argument, model: str) -> str:
    options = dict(argument.options)
    if "roberta" in options:
        options["roberta"] = str(Path(options["roberta"]).resolve())
    return ",".join([f"clap:{model}", *(f"{key}={value}" for key, value in options.items())])
