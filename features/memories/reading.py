"""What an HDF5 file says that is a memory: its header and its local embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from features.memories.container import CheckedArray, Opened
from features.parsing import parse_json
from features.space import modality_named

_FOREIGN = (".npy", ".npz", ".parquet", ".safetensors", ".fbin", ".f16bin")  # see `mcr import`


def header_fields(file: Any, texts: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a `MemoryHeader`. Raises ValueError for those of no memory.

    texts: the file's attributes that are texts.
    """
    embeddings = file["embeddings"]
    if embeddings.ndim != 2 or not embeddings.shape[1]:
        raise ValueError(f"its embeddings are {embeddings.shape}, not rows")
    if embeddings.dtype not in (np.float16, np.float32):
        raise ValueError(f"its embeddings are {embeddings.dtype}, not float16 or float32")
    return {
        "space": texts["space"],
        "modality": modality_named(texts["modality"]),
        "dimension": int(embeddings.shape[1]),
        "dtype": "float16" if embeddings.dtype == np.float16 else "float32",
        "encoder": _read_object(texts["encoder"]),
        "root": texts.get("root"),
        "extra": _read_object(texts["extra"]),
        "local_length": int(file["local"].shape[1]) if "local" in file else 0,
    }


def local_arrays(file: Opened) -> tuple[CheckedArray | None, CheckedArray | None]:
    """The embeddings of parts and their mask. Raises ValueError if they do not fit."""
    if "local" not in file.file:
        return None, None
    local, mask, pooled = (file.array(name) for name in ("local", "local_mask", "embeddings"))
    shape = (*mask.shape, *pooled.shape[1:])
    if len(shape) != 3 or local.shape != shape or local.dtype != pooled.dtype:
        raise ValueError(f"its local embeddings are {local.shape} {local.dtype}, not {shape}")
    return local, mask


def _read_object(text: str) -> dict[str, Any]:
    told = parse_json(text)
    if not isinstance(told, dict):
        raise ValueError("what it says of its encoder is no JSON object")
    return told


def remedy(path: Path) -> str:
    """What to do with a file that is no memory."""
    if path.suffix in _FOREIGN:
        return "make a memory of it with `mcr import`"
    if path.suffix == ".faiss":
        return "it looks like an index, which is given with --index"
    return "make it again with `mcr extract`"
