"""Memories to keep in Milvus, and FAISS indices of them to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import write_memory

N, D = 240, 16
IDS = [f'it\'s "{row}"' for row in range(N)]


def unit_queries(count: int, *, near: Memory | None = None, seed: int = 5) -> np.ndarray:
    """Random unit queries, half of them near rows of a memory."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, D))
    if near is not None:
        chosen = rng.choice(len(near), count // 2)
        rows[: count // 2] = np.asarray(near.embeddings)[chosen] + 0.05 * rows[: count // 2]
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def make_memory(path: Path, *, seed: int = 0, n: int = N) -> Memory:
    """Rows with copies of one another, and columns of every kind, with gaps."""
    rows = np.random.default_rng(seed).normal(size=(n, D))
    rows[n // 2 : n // 2 + 20] = rows[:20]
    rows[n - 30 :] = rows[7]
    unit = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    metadata = {
        "year": [str(2000 + row % 20) if row % 5 else "" for row in range(n)],
        "price": ["2.50" if row % 3 else "1e3" for row in range(n)],
        "share": [repr(row / 8 - 3) if row % 7 else "" for row in range(n)],
        "sold": [("true", "false", "")[row % 3] for row in range(n)],
        "a \"name\" of') its own": [("", 'a"b\\', "line\nbreak\t", "ü' or 1 == 1")[row % 4]
                                    for row in range(n)],
        "code": [f"0{row % 9}" for row in range(n)],
    }  # fmt: skip
    header = MemoryHeader("s", "image", D, "float32", {"name": "e"}, root="/data")
    columns = Columns(IDS[:n], [f"{one}.png" for one in IDS[:n]], [f"class {row % 6}" if row % 4
                      else "" for row in range(n)], metadata)  # fmt: skip
    return write_memory(path, header, columns, [unit], overwrite=True)
