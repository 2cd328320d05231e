"""The fusion encoder in a bridge's folder: `matcher.safetensors`, described in `bridge.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bridge.tcl.fusion import Fusion, FusionSpec
from features.errors import UserError
from features.files import replacing
from features.tensors import tensors_hash

MATCHER_FILE = "matcher.safetensors"


def matcher_about(matcher: Fusion | None) -> dict[str, Any] | None:
    """What `bridge.json` says of it."""
    if matcher is None:
        return None
    return {**matcher.spec.as_dict(), "fingerprint": tensors_hash(matcher.state_dict())}


def save_matcher(matcher: Fusion | None, folder: Path) -> None:
    """Write its weights, or remove those of another bridge."""
    if matcher is None:
        (folder / MATCHER_FILE).unlink(missing_ok=True)
        return
    tensors = {name: one.detach().cpu().contiguous() for name, one in matcher.state_dict().items()}
    with replacing(folder / MATCHER_FILE) as temporary:
        save_file(tensors, temporary)


def load_matcher(folder: Path, about: Mapping[str, Any] | None) -> Fusion | None:
    """The fusion encoder that `about` describes. Raises UserError if it is damaged."""
    if about is None:
        return None
    path = folder / MATCHER_FILE
    try:
        told = {name: value for name, value in about.items() if name != "fingerprint"}
        matcher = Fusion(FusionSpec.from_dict(told), torch.Generator())
        tensors = load_file(path)
        if tensors_hash(tensors) != about["fingerprint"]:
            raise UserError(
                f"{path} has fingerprint {tensors_hash(tensors)} but bridge.json says "
                f"{about['fingerprint']}: copy both files from one training run"
            )
        matcher.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({' '.join(str(error).split())}): copy the bridge again"
        ) from error
    return matcher.eval()
