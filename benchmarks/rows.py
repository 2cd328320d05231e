"""Random rows of a memory against h5py indexing of the same file.

python -m benchmarks.rows --items 1000000 --dimension 512 --rows 10240
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine, medians
from features.memory import Columns, Memory, MemoryHeader
from features.memory_write import write_memory

BLOCK = 65_536


def main() -> None:
    """Print the median times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rows", type=int, default=10_240)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        memory = _make(Path(folder) / "memory.h5", arguments.items, arguments.dimension)
        rows = np.random.default_rng(1).choice(arguments.items, arguments.rows, replace=False)
        ordered = np.sort(rows)  # h5py takes rows in increasing order only
        with h5py.File(memory.path, "r") as file:
            dataset = file["embeddings"]
            assert (dataset[ordered] == memory.rows(ordered)).all()
            times = medians(
                {
                    "Memory.rows": lambda: memory.rows(rows),
                    "h5py": lambda: dataset[ordered],
                },
                repeats=51,  # a few milliseconds each: few repeats scatter widely
            )
    print(machine())
    print(f"{arguments.rows:,} random rows of {arguments.items:,} x {arguments.dimension} float16")
    for name, seconds in times.items():
        print(f"{name:12} {seconds * 1e3:8.1f} ms")
    print(f"ratio        {times['h5py'] / times['Memory.rows']:8.1f}")


def _make(path: Path, items: int, dimension: int) -> Memory:
    def batches() -> Iterator[NDArray[Any]]:
        rng = np.random.default_rng(0)
        for start in range(0, items, BLOCK):
            size = (min(BLOCK, items - start), dimension)
            block = rng.standard_normal(size, dtype=np.float32)
            yield block / np.linalg.norm(block, axis=1, keepdims=True)

    header = MemoryHeader("random", "image", dimension)
    return write_memory(path, header, Columns([f"{i:07d}.jpg" for i in range(items)]), batches())


if __name__ == "__main__":
    main()
