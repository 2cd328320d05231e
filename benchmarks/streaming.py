"""Pseudo pairs from memories on the disk: seconds for each million items, and resident memory.

python -m benchmarks streaming --items 100000 1000000 10000000 --folder /tmp

Memories of float16 rows are made in a temporary folder, which is removed at the end; 10,000,000 x
512 take 10 GB. Each is asked in a fresh process, whose highest resident memory (VmHWM) is told, in
turns, and small ones more often in a turn. Just written files are in the page cache as far as they
fit; with --cold the system is asked to forget them before every run. The same retrieval from a
tensor, of the largest memory that --resident allows, is beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.clusters import BLOCK, clustered_rows
from benchmarks.machine import machine
from benchmarks.report import parser, report
from bridge.pseudo_pairs.exact import Rows, retrieve
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.streamed_rows import StreamedRows
from features.memories.strings import StringColumn
from features.memories.writing import write_memory

TEMPERATURE = 0.01
_OFTEN = 2_000_000  # items that small memories are asked for in a turn, all runs together
_DIGITS = 9  # of the ids


def main() -> None:
    """Print a table of the sizes."""
    options = parser(__doc__, repeats=2)
    options.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    options.add_argument("--queries", type=int, default=512)
    options.add_argument("--dimension", type=int, default=512)
    options.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options.add_argument("--resident", type=int, default=1_000_000, help="items of the tensor")
    options.add_argument("--cold", action="store_true", help="from the disk")
    options.add_argument("--ask", type=Path, nargs="+", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.ask:
        print(json.dumps(_asked(arguments)))
        return
    sizes = sorted(arguments.items)
    tensor = max((items for items in sizes if items <= arguments.resident), default=0)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        paths = {items: Path(folder) / f"{items}.h5" for items in sizes}
        for items, path in paths.items():
            _write(path, items, arguments.dimension)
        asked = {f"{items:,} from the disk": (paths[items], items, False) for items in sizes}
        if tensor:
            asked[f"{tensor:,}, a tensor"] = paths[tensor], tensor, True
        found: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
        for _ in range(arguments.repeats):
            for name, (path, items, resident) in asked.items():
                found[name].append(_child(path, items, arguments, resident=resident))
    print(machine())
    each = {
        name: statistics.median(one["seconds"] for one in runs) * 1e6 / asked[name][1]
        for name, runs in found.items()
    }
    peaks = {name: f"{max(one['peak'] for one in runs):.2f} GiB" for name, runs in found.items()}
    sizes_told = {name: getattr(arguments, name) for name in ("queries", "dimension", "cold")}
    report(
        "Pseudo pairs from the disk, time for a million items", each, ours=next(iter(each)),
        sizes=sizes_told, notes={"peak resident memory": peaks}, json_file=arguments.json,
    )  # fmt: skip


def _child(path: Path, items: int, arguments: Any, *, resident: bool) -> dict[str, float]:
    """What a fresh process says of one memory."""
    runs = max(1, _OFTEN // items)
    command = [
        sys.executable, "-m", "benchmarks", "streaming", "--ask", str(path),
        "--queries", str(arguments.queries), "--dimension", str(arguments.dimension),
        "--repeats", str(runs), "--resident", str(int(resident)),
        *["--cold"] * arguments.cold,
    ]  # fmt: skip
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    answer: dict[str, float] = json.loads(told.splitlines()[-1])
    return answer


def _asked(arguments: Any) -> dict[str, float]:
    """In the fresh process: the median time of a retrieval, and the most memory it ever had."""
    (path,) = arguments.ask
    memory = Memory(path)
    keys: Rows = memory.tensor() if arguments.resident else StreamedRows([memory])
    queries = torch.from_numpy(clustered_rows(arguments.queries, arguments.dimension, seed=1))
    queries = queries.float()
    retrieve(queries, keys[: BLOCK // 2], temperature=TEMPERATURE)  # warms up
    forget = _forgetter(path) if arguments.cold else lambda: None
    seconds = []
    for _ in range(arguments.repeats):
        forget()
        started = time.perf_counter()
        retrieve(queries, keys, temperature=TEMPERATURE)
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "peak": _peak() / 2**30}


def _forgetter(path: Path) -> Callable[[], None]:
    def forget() -> None:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    return forget


def _peak() -> int:
    """Bytes that were resident at most; Linux."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _write(path: Path, items: int, dimension: int) -> None:
    """Rows of one block again and again, their dimensions turned around by one each time.

    Random numbers for all would take longer than what is measured.
    """
    block = clustered_rows(min(items, BLOCK), dimension)

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, items, BLOCK):
            yield np.roll(block[: items - start], start // BLOCK, axis=1)

    digits = [np.arange(items) // 10**place % 10 for place in reversed(range(_DIGITS))]
    names = np.stack([one.astype(np.uint8) + ord("0") for one in digits], axis=1)
    ids = StringColumn(names.reshape(-1), np.arange(items + 1) * _DIGITS)
    header = MemoryHeader("random", "image", dimension)
    write_memory(path, header, Columns(ids), blocks(), checked=True, synced=False)


if __name__ == "__main__":
    main()
