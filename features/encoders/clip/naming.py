"""What an argument of `clip:` asks of open_clip: which model, weights and activation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from features.encoders.spec import Argument
from features.errors import UserError
from features.files import require_file
from features.tensors import read_state

CONFIG_FILE = "open_clip_config.json"


class ActivationUnknown(UserWarning):
    """A checkpoint does not say which activation it was trained with."""


def named(parsed: Argument, open_clip: Any) -> tuple[str, str | None]:
    """The model and its weights, checked before anything is built.

    Raises UserError for a model or weights that open_clip does not know.
    """
    name, *rest = parsed.values or ("",)
    if name.startswith("local-dir:"):
        require_file(
            Path(name.removeprefix("local-dir:")) / CONFIG_FILE, "open_clip's configuration"
        )
    if name.startswith(("hf-hub:", "local-dir:")):
        if rest:
            raise UserError(f"clip:{name} has weights of its own: leave '{rest[0]}' out")
        return name, None
    models = open_clip.list_models()
    if name not in models:
        close = get_close_matches(name, models)
        if name and Path(name).is_dir():
            close = [f"local-dir:{name}"]
        raise UserError(
            f"'{name}' is not a model of open_clip{_did_you_mean(close)}: write clip:MODEL,TAG, "
            "clip:hf-hub:ORG/REPO or clip:local-dir:FOLDER; `mcr encoders clip` lists them"
        )
    pretrained = ",".join(rest)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not pretrained:
        raise UserError(
            f"clip:{name} names no weights: write clip:{name},TAG or clip:{name},FILE; its tags "
            f"are {_few(tags)}"
        )
    if open_clip.is_pretrained_cfg(name, pretrained):
        return name, pretrained
    if not Path(pretrained).is_file():
        close = get_close_matches(pretrained, tags)
        raise UserError(
            f"'{pretrained}' is neither a file nor a tag of open_clip's "
            f"{name}{_did_you_mean(close)}: its tags are {_few(tags)}"
        )
    if not pretrained.endswith(".npz"):  # big_vision's, which only open_clip reads
        read_state(Path(pretrained), "CLIP weights")
    return name, str(Path(pretrained).resolve())


def asks_the_hub(name: str, pretrained: str | None, open_clip: Any) -> bool:
    """Whether anything may have to be downloaded; a text tower of transformers may."""
    if name.startswith("hf-hub:") or open_clip.is_pretrained_cfg(name, pretrained or ""):
        return True
    if name.startswith("local-dir:"):
        text = (Path(name.removeprefix("local-dir:")) / CONFIG_FILE).read_text("utf-8", "replace")
        return "hf_model_name" in text or "hf_tokenizer_name" in text
    return "hf_model_name" in str(open_clip.get_model_config(name))


def activation(parsed: Argument, name: str, pretrained: str | None, open_clip: Any) -> bool | None:
    """Whether the weights were trained with QuickGELU; None keeps the model's own activation."""
    if "quick_gelu" in parsed.options:
        return parsed.option("quick_gelu", "", ("yes", "no")) == "yes"
    if pretrained is None:
        return None
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if tag:
        return bool(tag.get("quick_gelu", False))
    own = bool((open_clip.get_model_config(name) or {}).get("quick_gelu", False))
    tags = [
        open_clip.get_pretrained_cfg(name, one).get("quick_gelu", False)
        for one in open_clip.list_pretrained_tags_by_model(name)
    ]
    if not own and any(tags):
        warnings.warn(
            f"{pretrained} does not say which activation it was trained with, and GELU is used: "
            "for weights of OpenAI, or trained from them, add quick_gelu=yes",
            ActivationUnknown,
            stacklevel=2,
        )
    return None


def full_spec(parsed: Argument, name: str, pretrained: str | None) -> str:
    """The argument that loads the same model from any folder."""
    if name.startswith("local-dir:"):
        name = f"local-dir:{Path(name.removeprefix('local-dir:')).resolve()}"
    options = [f"{key}={value}" for key, value in sorted(parsed.options.items())]
    return "clip:" + ",".join([name, *([pretrained] if pretrained else []), *options])


def _few(tags: Sequence[str]) -> str:
    told = ", ".join(tags[:4]) or "none"
    return told if len(tags) <= 4 else f"{told} and {len(tags) - 4} more, see `mcr encoders clip`"


def _did_you_mean(close: Sequence[str]) -> str:
    return f", did you mean {' or '.join(close)}" if close else ""
