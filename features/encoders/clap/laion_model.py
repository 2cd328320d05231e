"""LAION's CLAP network, of the parts that the package laion_clap publishes.

`import laion_clap` makes three tokenizers that come from the hub, and its CLAP class fetches
the weights of roberta-base only to replace them. So the audio tower is taken from the
package's own `clap_module`, and the text tower is made in the sizes of the checkpoint.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from features.encoders.spec import Argument
from features.errors import UserError
from features.extras import install_line, installed

# width of the audio tower's patch embedding -> name of its configuration
AUDIO_MODELS = {96: "HTSAT-tiny", 128: "HTSAT-base", 256: "HTSAT-large"}
HEAD_WIDTH = 64  # of every published RoBERTa
_CACHE = "NUMBA_CACHE_DIR"
FUSION_TYPE = "aff_2d"  # of every published fused checkpoint


@dataclass(frozen=True)
class LaionShape:
    """What a checkpoint's tensors tell of its network."""

    audio_model: str
    fused: bool
    joint_width: int


def read_shape(tensors: Mapping[str, Tensor], path: Path) -> LaionShape:
    """The shape of the network that `tensors` belong to. Raises UserError if it is unknown."""
    patches = tensors.get("audio_branch.patch_embed.proj.weight")
    words = tensors.get("text_branch.embeddings.word_embeddings.weight")
    joint = tensors.get("audio_projection.0.weight")
    if patches is None or words is None or joint is None or len(patches) not in AUDIO_MODELS:
        raise UserError(
            f"{path} is not a CLAP of HTSAT and RoBERTa: give a checkpoint of LAION's, such as "
            "630k-audioset-best"
        )
    return LaionShape(
        audio_model=AUDIO_MODELS[len(patches)],
        fused="audio_branch.patch_embed.mel_conv2d.weight" in tensors,
        joint_width=len(joint),
    )


def check_options(argument: Argument, shape: LaionShape, path: Path) -> None:
    """Raise UserError if `fusion=` or `amodel=` say otherwise than the checkpoint."""
    found = {"fusion": "yes" if shape.fused else "no", "amodel": shape.audio_model}
    choices = {"fusion": ("yes", "no"), "amodel": tuple(AUDIO_MODELS.values())}
    for option, value in found.items():
        given = argument.option(option, value, choices[option])
        if given != value:
            raise UserError(
                f"{option}={given} was asked for but {path} holds {option}={value}: leave the "
                "option out, or give another checkpoint"
            )


class LaionClap(nn.Module):
    """Both towers and their projections, with the names that LAION's checkpoints use."""

    def __init__(self, shape: LaionShape, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        package = _clap_module()
        parts = import_module("clap_module.model")
        configuration = Path(package.__file__).parent / f"model_configs/{shape.audio_model}.json"
        settings = json.loads(configuration.read_text())
        self.audio_settings: dict[str, Any] = settings["audio_cfg"]
        self.fused = shape.fused
        self.joint_width = joint = shape.joint_width
        self.audio_branch = parts.create_htsat_model(
            parts.CLAPAudioCfp(**self.audio_settings),
            shape.fused,
            FUSION_TYPE if shape.fused else "None",
        )
        self.text_branch = _text_tower(tensors)
        text_width = self.text_branch.config.hidden_size
        self.audio_projection = _projection(settings["embed_dim"], joint)
        self.text_projection = _projection(text_width, joint)
        # Heads of a training loss, which no embedding passes through.
        self.audio_transform = parts.MLPLayers(units=[joint] * 3)
        self.text_transform = parts.MLPLayers(units=[joint] * 3)
        self.logit_scale_a = nn.Parameter(torch.tensor(np.log(1 / 0.07)))
        self.logit_scale_t = nn.Parameter(torch.tensor(np.log(1 / 0.07)))


def build_laion(shape: LaionShape, tensors: Mapping[str, Tensor]) -> LaionClap:
    """The network with random weights, in evaluation mode; no random state is touched."""
    with quietly(), torch.random.fork_rng(devices=[]):
        return LaionClap(shape, tensors).eval()


@contextmanager
def quietly() -> Iterator[None]:
    """What packages print goes to stderr, and their warnings of each other nowhere."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _text_tower(tensors: Mapping[str, Tensor]) -> Any:
    """A RobertaModel in the sizes of the checkpoint's tensors."""
    from transformers import RobertaConfig, RobertaModel

    mine = {k.removeprefix("text_branch."): v for k, v in tensors.items() if "text_branch." in k}
    words = mine["embeddings.word_embeddings.weight"]
    layers = {name.split(".")[2] for name in mine if name.startswith("encoder.layer.")}
    first = mine.get("encoder.layer.0.intermediate.dense.weight", words)

    def rows(name: str, otherwise: int) -> int:
        return len(mine[name]) if name in mine else otherwise

    return RobertaModel(
        RobertaConfig(
            vocab_size=len(words),
            hidden_size=words.shape[1],
            num_hidden_layers=len(layers),
            num_attention_heads=max(1, words.shape[1] // HEAD_WIDTH),
            intermediate_size=len(first),
            max_position_embeddings=rows("embeddings.position_embeddings.weight", 514),
            type_vocab_size=rows("embeddings.token_type_embeddings.weight", 1),
            layer_norm_eps=1e-5,
        )
    )


def _projection(width: int, joint: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, joint), nn.ReLU(), nn.Linear(joint, joint))


@contextmanager
def own_cache_of_numba() -> Iterator[None]:
    """Keep numba's cache where it is, while laion_clap is imported, which moves it to /tmp.

    It holds pickles, and anybody can write there.
    """
    from numba.core import config

    import_module("torchlibrosa.stft")  # compiles with numba as it is imported
    before = os.environ.get(_CACHE)
    try:
        yield
    finally:
        os.environ.pop(_CACHE, None)
        if before is not None:
            os.environ[_CACHE] = before
        config.reload_config()  # type: ignore[no-untyped-call]


def _clap_module() -> Any:
    """The package `clap_module` inside laion_clap, under the name that laion_clap gives it."""
    if "clap_module" in sys.modules:
        return sys.modules["clap_module"]
    found = find_spec("laion_clap") if installed("laion_clap") else None
    if found is None or found.origin is None:
        raise UserError(f"CLAP needs the package laion_clap: {install_line('laion_clap')}")
    folder = Path(found.origin).parent / "clap_module"
    spec = spec_from_file_location(
        "clap_module", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise UserError(f"{folder} is not a Python package: {install_line('laion_clap')}")
    module = module_from_spec(spec)
    sys.modules["clap_module"] = module
    try:
        with own_cache_of_numba():
            spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules["clap_module"]
        raise UserError(
            f"the package laion_clap cannot be imported ({error}): {install_line('laion_clap')}"
        ) from error
    return module
