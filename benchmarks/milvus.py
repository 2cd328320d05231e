"""An exact index in a local file of Milvus against FAISS: the same ids, and what they take.

python -m benchmarks milvus --items 20000 --dimension 256

Every tenth row is there twice. A thousand queries are asked in turns of 50, then the
first few one at a time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clusters import clustered_rows
from benchmarks.report import parser
from features.memories.memory import Columns, MemoryHeader
from features.memories.writing import write_memory
from features.search.backends import Index, build_index
from features.search.filters import Range, Where

K = 10
FILTERS: dict[str, Where] = {"all items": {}, "a tenth of them": {"year": Range(max=2001)}}


def main() -> None:
    """Print rows written in a second, whether the ids agree, and ratios of times."""
    options = parser(__doc__, repeats=20)
    options.add_argument("--items", type=int, default=20_000)
    options.add_argument("--dimension", type=int, default=256)
    options.add_argument("--queries", type=int, default=1000)
    arguments = options.parse_args()
    rows = clustered_rows(arguments.items, arguments.dimension, seed=0).astype(np.float32)
    rows[5::10] = rows[::10][: len(rows[5::10])]
    queries = clustered_rows(arguments.queries, arguments.dimension, seed=1).astype(np.float32)
    names = [f"{row:07d}.jpg" for row in range(arguments.items)]
    columns = Columns(
        names, None, None, {"year": [str(2000 + row % 20) for row in range(len(rows))]}
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        header = MemoryHeader("random", "image", arguments.dimension, "float32")
        memory = write_memory(folder / "memory.h5", header, columns, [rows])
        built, seconds = {}, {}
        for name, place in (("FAISS", folder / "i.faiss"), ("Milvus", f"milvus:{folder}/i.db")):
            started = time.perf_counter()
            built[name] = build_index(memory, place)
            seconds[name] = time.perf_counter() - started
        print(
            f"built with recall measured: {arguments.items / seconds['Milvus']:.0f} rows/s in "
            f"Milvus, {seconds['Milvus'] / seconds['FAISS']:.1f} times as long as FAISS"
        )
        for told, where in FILTERS.items():
            _compare(told, built, queries, where, arguments.repeats)


def _compare(
    told: str,
    built: dict[str, Index],
    queries: np.ndarray[Any, Any],
    where: Where,
    repeats: int,
) -> None:
    passing = {name: index.filters.passing(where) for name, index in built.items()}
    found: dict[str, list[Any]] = {name: [] for name in built}
    taken: dict[str, float] = dict.fromkeys(built, 0.0)
    for start in range(0, len(queries), 50):
        for name, index in built.items():
            asked = queries[start : start + 50]
            seconds, (_, rows) = _timed(index.search_rows, asked, K, passing[name])
            taken[name] += seconds
            found[name].append(rows)
    same = np.concatenate(found["FAISS"]) == np.concatenate(found["Milvus"])
    single = {
        name: statistics.median(
            _timed(index.search_rows, queries[row : row + 1], K, passing[name])[0]
            for row in range(repeats)
        )
        for name, index in built.items()
    }
    print(
        f"{told}: {same.all(axis=1).sum()} of {len(queries)} queries have the same {K} ids in the "
        f"same order; Milvus takes {taken['Milvus'] / taken['FAISS']:.1f} times as long for 50 "
        f"queries together, {single['Milvus'] / single['FAISS']:.1f} times for one"
    )


def _timed(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    answer = run(*arguments)
    return time.perf_counter() - started, answer


if __name__ == "__main__":
    main()
