"""CLAP by transformers: a ClapModel with its own feature extractor and tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from features.device import resolve_device, resolve_precision
from features.encoders.clap.encoder import ClapEncoder
from features.encoders.clap.inputs import AudioInput, choose_windows
from features.encoders.clap.laion_model import quietly
from features.encoders.clap.mel import fuse
from features.encoders.clap.precision import FullPrecision, casting, exact_convolutions
from features.encoders.clap.tokens import own_tokenizer, vocabulary_hash
from features.encoders.hub import hub_access
from features.encoders.spec import Argument, space_name
from features.errors import UserError
from features.extras import require_package
from features.tensors import tensors_hash

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

SAFE = ["*.json", "*.txt", "*.safetensors"]
PICKLED = ["pytorch_model*.bin"]
NEEDED = ("config.json", "preprocessor_config.json")


def load_hf(argument: Argument, *, device: str, precision: str) -> ClapEncoder:
    """Load the model in a folder, or of that name on the hub.

    Raises UserError if files are missing, the weights do not fit, or it is no CLAP.
    """
    with quietly():
        require_package("transformers", "CLAP")
    on, dtype = resolve_device(device), resolve_precision(precision)
    space = space_name(argument, "clap")
    local = Path(argument.path).is_dir()
    folder = Path(argument.path) if local else _download(argument.path)
    for name in NEEDED:
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}: give a folder that ClapModel and ClapProcessor were "
                "saved into with save_pretrained"
            )
    with quietly():
        model, extractor = _load_model(folder), _load_extractor(folder)
        tokenizer = own_tokenizer(folder, model.config.text_config.vocab_size)
    fused = bool(model.config.audio_config.enable_fusion)
    if fused != (extractor.truncation == "fusion"):
        raise UserError(
            f"{folder} holds a model with enable_fusion={fused} but a feature extractor with "
            f"truncation={extractor.truncation}: give both as they were published together"
        )
    windows, max_windows = choose_windows(argument, fused=fused)
    model_name = str(folder.resolve()) if local else argument.path
    options = [f"{key}={value}" for key, value in argument.options.items()]
    return ClapEncoder(
        HfNetwork(model, extractor, tokenizer, device=on, dtype=dtype),
        AudioInput(
            sample_rate=extractor.sampling_rate,
            window=int(extractor.nb_max_samples),
            windows=windows,
            max_windows=max_windows,
            quantised=False,
        ),
        name=f"transformers {folder.resolve().name if local else argument.path}",
        spec=",".join([f"clap:{model_name}", *options]),
        space=space,
        packages=("transformers",),
    )


class HfNetwork:
    """A ClapModel on a device, from samples and sentences to embeddings."""

    def __init__(
        self,
        model: Any,
        extractor: Any,
        tokenizer: Any,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.device, self.dtype = device, dtype
        self.weights = tensors_hash(model.state_dict())
        self.dimension = int(model.config.projection_dim)
        text = model.config.text_config
        positions = text.max_position_embeddings - text.pad_token_id - 1  # RoBERTa's start later
        self.audio_settings = {
            "padding": extractor.padding,
            "fusion": bool(model.config.audio_config.enable_fusion),
            "mel": {
                "bands": extractor.feature_size,
                "hop": extractor.hop_length,
                "fft": extractor.fft_window_size,
                "hertz": [extractor.frequency_min, extractor.frequency_max],
            },
        }
        self.text_settings = {
            "tokens": min(tokenizer.model_max_length, positions),
            "vocabulary": vocabulary_hash(tokenizer),
        }
        self._extractor, self._tokenizer = extractor, tokenizer
        self._model = model.to(device)
        audio = model.audio_model.audio_encoder
        audio.patch_embed = FullPrecision(audio.patch_embed)

    def embed_sounds(self, sounds: Sequence[NDArray[np.float32]]) -> Float[torch.Tensor, "n d"]:
        """Embeddings of mono sounds; longer ones than the window only if the model is fused."""
        spectrograms = [self._spectrogram(one) for one in sounds]
        mel = torch.stack([one for one, _ in spectrograms]).to(self.device)
        # As in LAION's code, a short sound is never fused. The feature extractor declares one
        # of a batch of short sounds long, at random, as training did.
        longer = torch.tensor([[one] for _, one in spectrograms], device=self.device)
        with exact_convolutions(), casting(self.device, self.dtype):
            return _features(self._model.get_audio_features(input_features=mel, is_longer=longer))

    def embed_texts(self, texts: list[str]) -> Float[torch.Tensor, "n d"]:
        """Embeddings of sentences, cut after so many tokens as the settings say."""
        tokens = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.text_settings["tokens"],
            return_tensors="pt",
        )
        with casting(self.device, self.dtype):
            return _features(
                self._model.get_text_features(
                    input_ids=tokens["input_ids"].to(self.device),
                    attention_mask=tokens["attention_mask"].to(self.device),
                )
            )

    def _spectrogram(
        self, samples: NDArray[np.float32]
    ) -> tuple[Float[torch.Tensor, "channels frames bands"], bool]:
        """What the feature extractor gives, without its random choices, and if it is fused."""
        window = int(self._extractor.nb_max_samples)
        found = self._extractor(
            samples,
            # Nothing to cut: the whole spectrogram of a longer sound, to be fused below.
            max_length=max(window, len(samples)),
            sampling_rate=self._extractor.sampling_rate,
            return_tensors="pt",
        )["input_features"][0].float()
        if len(samples) <= window:
            return found, False
        return fuse(found[0], window // self._extractor.hop_length + 1)


def _load_model(folder: Path) -> Any:
    """The ClapModel of a folder in float32, every weight of it from the file."""
    from transformers import ClapModel

    try:
        with torch.random.fork_rng(devices=[]):
            loaded: Any = ClapModel.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # of the JSON, safetensors and transformers packages
        raise _unreadable(folder, "ClapModel", error) from error
    model, report = loaded
    wrong = [*report["missing_keys"], *report["mismatched_keys"]]
    if wrong:
        raise UserError(
            f"{folder} does not hold the weights of its config.json: {len(wrong)} tensors are "
            f"missing or of another shape (such as {wrong[0]}); download the model again"
        )
    return model.float().eval()


def _load_extractor(folder: Path) -> Any:
    from transformers import ClapFeatureExtractor

    try:
        return ClapFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise _unreadable(folder, "ClapFeatureExtractor", error) from error


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    with hub_access(f"the model {name}", "give a folder that holds it, clap:FOLDER"):
        folder = Path(snapshot_download(name, allow_patterns=SAFE))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*SAFE, *PICKLED]))
    return folder


def _features(output: Any) -> torch.Tensor:
    """The embeddings: older transformers give the tensor, newer ones an output around it."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _unreadable(folder: Path, what: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{folder} cannot be read as a {what} ({reason}): download it again")
