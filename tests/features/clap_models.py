"""Small CLAP models with random weights, and the published packages that embed with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from features.encoders.clap import load_clap
from features.encoders.clap.encoder import ClapEncoder
from features.encoders.clap.laion_model import own_cache_of_numba

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MERGES = ("Ġ a", "d o", "do g", "Ġ do", "a r", "b ar")
TEXTS = ["a dog barks", "rain", "the sound of a dog that barks at the rain", "ü?"]


def write_tokenizer(folder: Path) -> int:
    """RoBERTa's two files with a few merges; returns how many tokens there are."""
    # The 256 symbols that byte-level BPE writes bytes as: printable Latin-1, others from U+0100.
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(byte) for byte in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*SPECIAL, *symbols, *merged, "<mask>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))
    return len(vocabulary)


def cache_folder(cache: Path, repository: str) -> Path:
    """Where a hub cache keeps the files of a repository, made for them."""
    place = cache / f"models--{repository.replace('/', '--')}"
    folder = place / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(folder.name)
    return folder


def write_roberta_cache(cache: Path) -> None:
    """Put a small roberta-base into a hub cache."""
    from transformers import RobertaConfig, RobertaModel

    folder = cache_folder(cache, "roberta-base")
    size = write_tokenizer(folder)
    config = RobertaConfig(
        vocab_size=size, num_hidden_layers=1, intermediate_size=64, max_position_embeddings=514,
        type_vocab_size=1, layer_norm_eps=1e-5,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)


@contextmanager
def hub_cache(cache: Path) -> Iterator[None]:
    """No hub but this cache."""
    from huggingface_hub import constants

    with (
        mock.patch.object(constants, "HF_HUB_CACHE", str(cache)),
        mock.patch.object(constants, "HF_HUB_OFFLINE", True),
    ):
        yield


def published_clap(cache: Path, *, fused: bool) -> Any:
    """LAION's CLAP_Module with random weights that tell sounds and texts apart."""
    with hub_cache(cache), torch.random.fork_rng(devices=[]), own_cache_of_numba():
        torch.manual_seed(int(fused))
        import laion_clap  # here: its import makes tokenizers from the hub or its cache

        published = laion_clap.CLAP_Module(enable_fusion=fused, device="cpu")
        published.model.eval()
        for name, parameter in published.model.named_parameters():
            if parameter.dim() > 1 and "extractor" not in name:
                parameter.data.mul_(3)
        # The decibels of these tests' sounds, so that their differences count.
        published.model.audio_branch.bn0.running_mean.fill_(-10)
        published.model.audio_branch.bn0.running_var.fill_(100)
    return published


def save_checkpoint(published: Any, path: Path) -> None:
    """As LAION's training saves it, with the buffer of the transformers of its day."""
    state = {f"module.{name}": value for name, value in published.model.state_dict().items()}
    state["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    torch.save({"epoch": 3, "name": "test", "state_dict": state}, path)


def save_hf_model(folder: Path, *, fused: bool) -> Any:
    """A tiny ClapModel with its feature extractor and tokenizer; returns the model."""
    transformers = pytest.importorskip("transformers")
    size = write_tokenizer(folder)
    transformers.RobertaTokenizer.from_pretrained(str(folder)).save_pretrained(folder)
    config = transformers.ClapConfig(
        text_config={
            "vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 66,
        },
        audio_config={
            "patch_embeds_hidden_size": 16, "hidden_size": 32, "depths": [1, 1],
            "num_attention_heads": [2, 2], "enable_fusion": fused, "window_size": 8,
            "fusion_type": "aff_2d" if fused else None,
        },
        projection_dim=24,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = transformers.ClapModel(config).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(4)
    model.save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        frequency_min=50, truncation="fusion" if fused else "rand_trunc"
    ).save_pretrained(folder)
    return model


def noise(seconds: float, rate: int = 48_000, *, seed: int = 0) -> NDArray[np.float32]:
    """Noise in every band whose colour and loudness wander, so that no two parts are alike."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    knots = np.linspace(0, count, 2 + int(seconds))
    white = rng.standard_normal(count + 1)
    colour, loudness = (np.interp(np.arange(count), knots, rng.random(len(knots))) for _ in "ab")
    mixed = white[1:] + 0.95 * (2 * colour - 1) * white[:-1]
    return np.asarray(0.02 + 0.1 * loudness, np.float32) * mixed.astype(np.float32)


def write_sound(path: Path, samples: NDArray[np.float32], rate: int = 48_000) -> Path:
    """A sound file without loss."""
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def embed(encoder: ClapEncoder, *paths: Path) -> torch.Tensor:
    """Embeddings of sound files in one batch."""
    make = encoder.input("audio")
    return encoder.encode([make(path) for path in paths], "audio")


def load(name: str | Path, *options: str, precision: str = "fp32") -> ClapEncoder:
    """An encoder on the CPU."""
    return load_clap(",".join([str(name), *options]), device="cpu", precision=precision)
