"""FAISS indices on a GPU, where faiss-gpu is installed; with cuVS, if it was built so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from features.device import resolve_device
from features.errors import UserError

MOST_FOUND = 2048  # hits of a query that FAISS finds on a GPU


def gpu_index(index: Any, device: str, path: Path) -> Any:
    """A copy of `index` on the GPU that `device` names, or None where it is to stay on the CPU.

    device: cpu, cuda, cuda:1, or auto: a GPU if torch and FAISS see one, and FAISS has the kind of
    index there (flat and IVF; graphs such as HNSW stay on the CPU).
    Raises UserError for a GPU that was asked for by name and cannot be used.
    """
    if device == "cpu":  # without loading torch
        return None
    where = resolve_device(device)
    if where.type != "cuda":
        return None
    import faiss

    number = where.index or 0
    seen = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if number >= seen:
        if device == "auto":
            return None
        raise UserError(
            f"{path} was to be searched on {device} but FAISS {faiss.__version__} sees {seen} "
            'GPUs: uninstall faiss-cpu and `pip install "mcr-bridge[gpu]"`, or search on the CPU'
        )
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index)
    except RuntimeError as error:
        if device == "auto":
            return None
        raise UserError(
            f"{path} cannot be searched on {device}, FAISS has no {type(index).__name__} there: "
            "build it as flat or ivf, or search on the CPU"
        ) from error
