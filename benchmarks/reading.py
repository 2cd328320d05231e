"""Reading a whole memory into RAM, and random rows of it, against NumPy and h5py.

python -m benchmarks reading --items 1000000 --dimension 512 --rows 10240

What is opened is checked against its checksums; what was checked already is not checked again.
The file is in the page cache; with --cold the system is asked to forget it before every run,
which it may not do.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from benchmarks.clusters import clustered
from benchmarks.machine import medians
from benchmarks.report import parser, report
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import write_memory


def main() -> None:
    """Print a table of the full read and one of the gather."""
    options = parser(__doc__)
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--dimension", type=int, default=512)
    options.add_argument("--rows", type=int, default=10_240)
    options.add_argument("--cold", action="store_true", help="from the disk")
    arguments = options.parse_args()
    sizes = {"items": arguments.items, "dimension": arguments.dimension}
    with tempfile.TemporaryDirectory() as folder:
        header = MemoryHeader("random", "image", arguments.dimension)
        memory = write_memory(
            Path(folder) / "memory.h5",
            header,
            Columns([f"{row:07d}.jpg" for row in range(arguments.items)]),
            clustered(arguments.items, arguments.dimension),
        )
        readers = _readers(memory)
        if arguments.cold:
            readers = {name: _after(memory.path, run) for name, run in readers.items()}
        seconds = medians(readers, repeats=arguments.repeats)
        title = "Full read" + ", cold" * arguments.cold
        ours = "opened, checked and copied"
        report(title, seconds, ours=ours, sizes=sizes, json_file=arguments.json)
        rows = np.random.default_rng(1).choice(arguments.items, arguments.rows, replace=False)
        ordered = np.sort(rows)  # h5py takes rows in increasing order only
        with h5py.File(memory.path, "r") as file:
            dataset = file["embeddings"]
            assert (dataset[ordered] == memory.rows(ordered)).all()
            seconds = medians(
                {"Memory.rows": lambda: memory.rows(rows), "h5py": lambda: dataset[ordered]},
                repeats=51,  # a few milliseconds each: few repeats scatter widely
            )
        sizes["rows"] = arguments.rows
        report("Random rows", seconds, ours="Memory.rows", sizes=sizes, json_file=arguments.json)


def _readers(memory: Memory) -> dict[str, Callable[[], object]]:
    assert isinstance(memory.embeddings, np.memmap)
    offset, count = memory.embeddings.offset, memory.embeddings.size

    def by_h5py() -> object:
        with h5py.File(memory.path, "r") as file:
            return file["embeddings"][...]

    return {
        "np.fromfile": lambda: np.fromfile(
            memory.path, memory.embeddings.dtype, count=count, offset=offset
        ),
        "opened, checked and copied": lambda: np.array(Memory(memory.path).embeddings),
        "np.array of the map": lambda: np.array(memory.embeddings),
        "h5py": by_h5py,
        "Memory.tensor, float32 unit rows": memory.tensor,
    }


def _after(path: Path, run: Callable[[], object]) -> Callable[[], object]:
    def forgotten() -> object:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return run()

    return forgotten


if __name__ == "__main__":
    main()
