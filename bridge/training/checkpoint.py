"""Checkpoints: the whole state of a training run, in safetensors and JSON.

Continuing from one gives the same weights as never having stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge.runs.layout import PARTS_FOLDER
from bridge.training.distributed import Ranks
from features.errors import UserError
from features.files import replacing
from features.sealed import read_sealed, sealed
from features.tensors import tensors_hash

PROGRESS_FILE = "checkpoint.json"
MIXTURE_FILE = "mixture.json"  # of a mixture, until it is complete


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a checkpoint; `checkpoint.json` names the tensors' file, so both fit together."""
    epoch = about["epoch"]
    file = folder / f"checkpoint-{epoch}.safetensors"
    with replacing(file) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    with replacing(folder / PROGRESS_FILE) as temporary:
        told = {**about, "tensors": file.name, "fingerprint": tensors_hash(tensors)}
        temporary.write_text(json.dumps(sealed(told)), encoding="utf-8")
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != file:
            old.unlink()


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last checkpoint in `folder`, or None. Raises UserError if it is damaged."""
    path = folder / PROGRESS_FILE
    if not path.exists():
        return None
    try:
        about = read_sealed(path)
        tensors = load_file(folder / about["tensors"])
        if tensors_hash(tensors) != about["fingerprint"]:
            raise ValueError(f"{about['tensors']} is not what was written")
        return tensors, about
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"the checkpoint in {folder} is damaged ({' '.join(str(error).split())}): pass "
            "--overwrite to train from the start"
        ) from error


def shared_checkpoint(
    folder: Path, ranks: Ranks
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `load_checkpoint` gives the first process, for all of them."""
    found = load_checkpoint(folder) if ranks.first else None
    about = ranks.told(lambda: None if found is None else found[1])
    if about is None:
        return None
    tensors = None if found is None else found[0]
    return ranks.handed_out(tensors, torch.device("cpu")), about


def remove_checkpoint(folder: Path) -> None:
    """Delete the checkpoint, once the bridge is saved."""
    (folder / PROGRESS_FILE).unlink(missing_ok=True)
    for file in folder.glob("checkpoint-*.safetensors"):
        file.unlink()


def save_weights(folder: Path, state: Mapping[str, Any]) -> None:
    """Keep the weights that were found for a mixture, while its parts are trained."""
    with replacing(folder / MIXTURE_FILE) as temporary:
        temporary.write_text(json.dumps(sealed(state)), encoding="utf-8")


def load_weights(folder: Path) -> dict[str, Any] | None:
    """What `save_weights` kept, or None. Raises UserError if it is damaged."""
    path = folder / MIXTURE_FILE
    if not path.exists():
        return None
    try:
        state = read_sealed(path)
        if not {"plan", "weights"} <= state.keys():
            raise ValueError("it lacks its plan or its weights")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): pass --overwrite to train from the start"
        ) from error
    return state


def remove_parts(folder: Path) -> None:
    """Delete what a mixture needed while its parts were trained, and nothing else."""
    (folder / MIXTURE_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / PARTS_FOLDER, ignore_errors=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat tensors."""
    return {
        f"optimizer/{index}/{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    content = optimizer.state_dict()
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            index, _, name = rest.partition("/")
            content["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(content)
