"""CLAP: sounds and sentences in one space, by LAION's package or by transformers.

    clap:630k-audioset-best            a checkpoint that LAION published, by name
    clap:PATH.pt or .safetensors       such a checkpoint in a file
    clap:laion/clap-htsat-unfused      a model of transformers, by its name on the hub
    clap:FOLDER                        such a model in a folder with config.json

Options, after commas: `windows=centre|tiled|fused` and `max_windows=N` (see
`features.encoders.clap.inputs`), `space=NAME`; for LAION's checkpoints also
`roberta=FOLDER`, `fusion=yes|no` and `amodel=HTSAT-tiny|HTSAT-base|HTSAT-large`.

CLAP: Wu et al. 2023, arXiv 2211.06687.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from features.encoders.spec import Argument, parse_argument
from features.errors import UserError

if TYPE_CHECKING:
    from features.encoders.clap.encoder import ClapEncoder

__all__ = ["PUBLISHED", "load_clap"]

# In the hub repository lukewys/laion_clap, as NAME.pt.
PUBLISHED = (
    "630k-best",
    "630k-audioset-best",
    "630k-fusion-best",
    "630k-audioset-fusion-best",
    "music_audioset_epoch_15_esc_90.14",
    "music_speech_epoch_15_esc_89.25",
    "music_speech_audioset_epoch_15_esc_89.98",
)
COMMON = ("windows", "max_windows", "space")
LAION_ONLY = ("roberta", "fusion", "amodel")
WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_clap(argument: str, *, device: str = "auto", precision: str = "fp32") -> ClapEncoder:
    """Load the CLAP model that `argument` names; precision is fp32 or bf16.

    Raises UserError if there is no such model, its weights do not fit, or its tokenizer's files
    are missing.
    """
    if precision == "fp16":
        raise UserError(
            "precision fp16 does not suit CLAP: powers of its spectrogram overflow beyond 65504 "
            "and BatchNorm then gives NaN; use fp32 or bf16"
        )
    parsed = parse_argument(argument, family="clap", options=(*COMMON, *LAION_ONLY))
    name = parsed.path
    if name.removesuffix(".pt") in PUBLISHED and not Path(name).exists():
        return _load_laion(parsed, name.removesuffix(".pt"), device=device, precision=precision)
    if Path(name).is_dir() and name:
        return _load_hf(parsed, device=device, precision=precision)
    if Path(name).is_file() or name.endswith(WEIGHTS_SUFFIXES):
        return _load_laion(parsed, None, device=device, precision=precision)
    if _HUB_NAME.fullmatch(name):
        return _load_hf(parsed, device=device, precision=precision)
    fact = f"'{name}' is not a CLAP model" if name else "the encoder clap needs a model"
    raise UserError(
        f"{fact}: give one of {', '.join(PUBLISHED)}, a file of weights, a "
        "folder with config.json, or a name on the hub such as laion/clap-htsat-unfused"
    )


def _load_laion(
    parsed: Argument, published: str | None, *, device: str, precision: str
) -> ClapEncoder:
    from features.encoders.clap.laion import load_laion

    return load_laion(parsed, published, device=device, precision=precision)


def _load_hf(parsed: Argument, *, device: str, precision: str) -> ClapEncoder:
    from features.encoders.clap.hf import load_hf

    for option in LAION_ONLY:
        if option in parsed.options:
            raise UserError(
                f"{option}={parsed.options[option]} is for LAION's checkpoints, and "
                f"{parsed.path} is a model of transformers, which knows it by itself: leave "
                f"{option} out"
            )
    return load_hf(parsed, device=device, precision=precision)
