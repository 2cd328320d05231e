"""Tensors in files: reading weights without running what a file says, and hashing them.

safetensors holds nothing but tensors. A `.pt` is a pickle, and is read with torch's
`weights_only` unpickler, which builds tensors and plain containers and calls nothing else; to
these, what checkpoints of training runs carry beside their weights is added: argparse's
Namespace and NumPy's numbers.
"""

from __future__ import annotations

import pickle
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from features.errors import UserError
from features.files import require_file

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_state(path: Path, what: str = "weights") -> dict[str, Tensor]:
    """The named tensors of a .safetensors or torch file, `module.` stripped from the names.

    A training checkpoint gives its `state_dict`. Raises UserError if the file is missing,
    damaged, holds Python objects or no tensors.
    """
    content = _load(require_file(path, what), what)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not named tensors: give {what}")
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no named tensors: give a file of {what}")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def load_exactly(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load all of `tensors`, and nothing else, into `module`.

    Raises UserError that names a tensor that is missing, left over or of another shape.
    """
    wanted = module.state_dict()
    lacking = [name for name in wanted if name not in tensors]
    extra = [name for name in tensors if name not in wanted]
    resized = [n for n, t in wanted.items() if n in tensors and tensors[n].shape != t.shape]
    if lacking or extra or resized:
        told = [
            f"{len(names)} {how} (such as {names[0]})"
            for names, how in (
                (lacking, "missing"),
                (extra, "unknown"),
                (resized, "of another shape"),
            )
            if names
        ]
        raise UserError(
            f"{path} does not hold the weights of {type(module).__name__}: of {len(wanted)} "
            f"tensors, {', '.join(told)}; give the checkpoint that was published for this model"
        )
    module.load_state_dict(dict(tensors))


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """XXH3-128 of names, shapes and values, in the order of the names."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return str(digest.hexdigest())


def _load(path: Path, what: str) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} cannot be read as {what} ({_oneline(error)})") from error
    try:
        with weights_only():
            # Mapped, so that what is not asked for is not read; old files are no archives.
            mapped = is_zipfile(path)
            return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as error:
        found = str(error).partition("Unsupported global: GLOBAL ")[2].split(" ")[0]
        if not found:
            raise UserError(
                f"{path} cannot be read as {what}: give a .pt or .safetensors file"
            ) from error
        raise UserError(
            f"{path} holds Python objects ({found}), which could run code when they are read: save "
            "its state_dict as .safetensors and give that"
        ) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise UserError(
                f"{path} is a TorchScript archive, which could run code when it is read: give its "
                "state_dict as .safetensors, or for CLIP the tag openai"
            ) from error
        raise UserError(f"{path} cannot be read as {what} ({_oneline(error)})") from error
    except Exception as error:  # a file that is no pickle makes the unpickler raise anything
        raise UserError(
            f"{path} cannot be read as {what} ({_oneline(error)}): download it again"
        ) from error


@contextmanager
def weights_only() -> Iterator[None]:
    """Let torch's `weights_only` unpickler also read Namespaces and NumPy's numbers."""
    with torch.serialization.safe_globals(_harmless()):
        yield


def _harmless() -> list[Any]:
    """Classes and functions that make plain values, under the names that pickles know."""
    kinds = {type(np.dtype(one)) for one in ("f2", "f4", "f8", "i4", "i8", "u1", "?")}
    reconstruct = np.dtype(np.float64).type(0).__reduce__()[0]
    named = [(reconstruct, f"numpy.{package}.multiarray.scalar") for package in ("core", "_core")]
    return [Namespace, np.dtype, *kinds, *named]


def _oneline(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
