"""Millions of items listed, extracted in shards and merged: time for each million, and memory.

python -m benchmarks scale --items 1250000 2500000 5000000 --folder /tmp

Items are sentences of a table, with ids of their own; the encoder costs next to nothing. Every
step is a process of its own, whose processor time and highest resident memory are told. With
--files as many empty picture files are listed as well, where the folder has room for them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.report import parser, report

ENCODER = "benchmarks.tiny_texts:load"
_A_FOLDER = 1000  # files
_LIST = "from features.extraction.sources import read_source; read_source({!r}, {!r})"


@dataclass(frozen=True)
class Cost:
    """Of a process: seconds of its processors, and the most bytes that it had at a time."""

    seconds: float
    peak: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, max(self.peak, other.peak))


def main() -> None:
    """Print a table of the sizes."""
    options = parser(__doc__, repeats=1)
    options.add_argument("--items", type=int, nargs="+", default=[125_000, 250_000, 500_000])
    options.add_argument("--shards", type=int, default=4)
    options.add_argument("--files", action="store_true", help="list as many files, too")
    options.add_argument("--folder", type=Path, help="where the temporary folder is made")
    arguments = options.parse_args()
    found: dict[str, Cost] = {}
    each: dict[str, float] = {}
    started = _start()
    for items in sorted(arguments.items):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            costs = measured(Path(folder), items, arguments.shards, files=arguments.files)
        for step, cost in costs.items():
            name = f"{items:,} {step}"
            found[name] = cost
            processes = arguments.shards if step == "extracted" else 1
            each[name] = (cost.seconds - processes * started[step].seconds) * 1e6 / items
    print(machine())
    report(
        "Processor time for a million items, without the start of a process", each,
        ours=next(iter(each)), sizes={"shards": arguments.shards, "dimension": 8},
        notes={"peak resident memory": {k: f"{c.peak / 2**20:.0f} MiB" for k, c in found.items()}},
        json_file=arguments.json,
    )  # fmt: skip


def _start() -> dict[str, Cost]:
    """What the steps cost for a handful of items."""
    with tempfile.TemporaryDirectory() as folder:
        return measured(Path(folder), 8, 1, files=True)


def measured(folder: Path, items: int, shards: int, *, files: bool) -> dict[str, Cost]:
    """Of listing a table, extracting it in shards, merging them and, on demand, listing files."""
    folder.mkdir(parents=True, exist_ok=True)
    table, memory = folder / "items.csv", folder / "items.h5"
    with table.open("w", encoding="utf-8") as file:
        file.write("id,text\n")
        file.writelines(f"{row:09d},the sentence number {row} of many\n" for row in range(items))
    found = {"listed": _cost(sys.executable, "-c", _LIST.format(str(table), "text"))}
    extract = [
        "extract", str(table), "-e", ENCODER, "-m", "text", "--id-column", "id", "--keep", "none",
        "--batch-size", "4096", "--workers", "0", "-o", str(memory),
    ]  # fmt: skip
    cost = Cost(0, 0)
    for shard in range(1, shards + 1):
        cost += _cost(sys.executable, "-m", "cli", *extract, "--shard", f"{shard}/{shards}")
    found["extracted"] = cost
    parts = sorted(map(str, folder.glob("items.*-of-*.h5")))
    found["merged"] = _cost(sys.executable, "-m", "cli", "merge", *parts, "-o", str(memory))
    if files:
        found["files listed"] = _listed_files(folder / "files", items)
    return found


def _listed_files(folder: Path, items: int) -> Cost:
    for row in range(items):
        if row % _A_FOLDER == 0:
            (folder / f"{row // _A_FOLDER:06d}").mkdir(parents=True)
        os.close(os.open(_file(folder, row), os.O_CREAT | os.O_WRONLY))
    return _cost(sys.executable, "-c", _LIST.format(str(folder), "image"))


def _file(folder: Path, row: int) -> str:
    return f"{folder}/{row // _A_FOLDER:06d}/{row:09d}.jpg"


def _cost(*command: str) -> Cost:
    started = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed after {time.monotonic() - started:.0f} s: {said}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


if __name__ == "__main__":
    main()
