"""`mcr import` of a clip-retrieval folder against copying the same folder.

python -m benchmarks importing --items 1000000 --dimension 512 --shards 4

Copying is `shutil.copytree`, which leaves the writing to the operating system's leisure; it is
timed with an fsync of every file, too, as a memory waits for the disk. Imports run in processes
of their own, which report their peak memory (Linux), with the start of Python and without.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as _format

from benchmarks.machine import machine
from features.exchange.parquet import require_arrow

npy: Any = _format  # has no types before NumPy 2
BLOCK = 65_536
_IMPORT = """
import pathlib, sys, time
from features.exchange.choose import ColumnNames, choose_columns
from features.exchange.importing import import_memory
from features.exchange.made_by import MadeBy, header_for
from features.exchange.opening import open_embeddings
import h5py, xxhash, pyarrow.parquet
started = time.perf_counter()
file = open_embeddings(sys.argv[1], "image")
columns, _ = choose_columns(file, "image", ColumnNames())
header = header_for(file, MadeBy("clip"), "image")
import_memory(file, columns, sys.argv[2], header, overwrite=True)
print(time.perf_counter() - started)
status = pathlib.Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
print(max([int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")], default=0))
"""


def main() -> None:
    """Print median times, their ratios and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _make(folder / "source", arguments.items, arguments.dimension, arguments.shards)
        size = sum(one.stat().st_size for one in (folder / "source").rglob("*") if one.is_file())
        copies, flushed, inside, whole, peaks = [], [], [], [], []
        for turn in range(arguments.repeats + 1):  # the first warms the caches up
            copied, imported = _copy(folder), _import(folder)
            if turn:
                copies.append(copied[0])
                flushed.append(copied[1])
                inside.append(imported[0])
                whole.append(imported[1])
                peaks.append(imported[2])
    print(machine())
    print(
        f"{arguments.items:,} x {arguments.dimension} float16 in {arguments.shards} shards, "
        f"{size / 1e6:,.0f} MB with metadata, medians of {arguments.repeats}"
    )
    copy, flush = statistics.median(copies), statistics.median(flushed)
    print(f"{'copy':28} {copy:6.2f} s")
    print(f"{'copy, on the disk':28} {flush:6.2f} s")
    for name, seconds in (("import", inside), ("import, with its start", whole)):
        took = statistics.median(seconds)
        print(
            f"{name:28} {took:6.2f} s  {copy / took:5.2f} of the speed of copying, "
            f"{flush / took:5.2f} of copying onto the disk"
        )
    print(f"{'peak memory':28} {max(peaks) / 2**20:6.0f} MiB")


def _copy(folder: Path) -> tuple[float, float]:
    """Seconds until the copy is there, and until it is on the disk, as a memory is."""
    shutil.rmtree(folder / "copy", ignore_errors=True)
    os.sync()
    started = time.perf_counter()
    shutil.copytree(folder / "source", folder / "copy")
    copied = time.perf_counter() - started
    for path in (folder / "copy").rglob("*.*"):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    return copied, time.perf_counter() - started


def _import(folder: Path) -> tuple[float, float, int]:
    """Seconds inside the process and of all of it, and its peak memory in bytes."""
    (folder / "memory.h5").unlink(missing_ok=True)
    os.sync()
    command = [sys.executable, "-c", _IMPORT, str(folder / "source"), str(folder / "memory.h5")]
    started = time.perf_counter()
    # Not ru_maxrss, which remembers this process's memory from before the exec.
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(told[0]), time.perf_counter() - started, int(told[1])


def _make(folder: Path, items: int, dimension: int, shards: int) -> None:
    pyarrow = require_arrow("this benchmark")
    parquet = require_arrow("this benchmark", "pyarrow.parquet")
    rng = np.random.default_rng(0)
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    bounds = [items * shard // shards for shard in range(shards + 1)]
    for shard in range(shards):
        start, stop = bounds[shard], bounds[shard + 1]
        file = folder / "img_emb" / f"img_emb_{shard}.npy"
        rows = npy.open_memmap(file, "w+", dtype=np.float16, shape=(stop - start, dimension))
        for first in range(0, stop - start, BLOCK):
            block = rng.standard_normal(rows[first : first + BLOCK].shape, dtype=np.float32)
            rows[first : first + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
        rows.flush()
        numbers = range(start, stop)
        table = {
            "image_path": [f"{one // 10_000:05d}/{one:09d}.jpg" for one in numbers],
            "caption": [f"a photograph of thing number {one}" for one in numbers],
        }
        parquet.write_table(pyarrow.table(table), folder / "metadata" / f"metadata_{shard}.parquet")


if __name__ == "__main__":
    main()
