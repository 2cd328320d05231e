"""HNSW against exact search for one query at a time, at the recall that `mcr index` measures.

python -m benchmarks ann --items 200000 --dimension 512

Building the graph takes most of the time. Recall is of queries that are not in the memory. The
candidates take turns of 20 queries: reading all rows for every other query would leave a graph
nothing of the caches, which it has when it answers alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.clusters import clustered, clustered_rows
from benchmarks.report import parser, report
from features.memories.memory import Columns, MemoryHeader
from features.memories.writing import write_memory
from features.search.building import build_index
from features.search.nearest import ExactSearch

K = 10
TURN = 20  # queries


def main() -> None:
    """Print the medians of single queries, and the recall."""
    options = parser(__doc__, repeats=200)
    options.add_argument("--items", type=int, default=200_000)
    options.add_argument("--dimension", type=int, default=512)
    arguments = options.parse_args()
    queries = clustered_rows(arguments.repeats, arguments.dimension, seed=1).astype(np.float32)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        memory = write_memory(
            folder / "memory.h5",
            MemoryHeader("random", "image", arguments.dimension),
            Columns([f"{row:07d}.jpg" for row in range(arguments.items)]),
            clustered(arguments.items, arguments.dimension),
        )
        exact = ExactSearch(memory.embeddings, unit=True)
        flat = build_index(memory, folder / "flat.faiss")
        started = time.perf_counter()
        graph = build_index(memory, folder / "graph.faiss", kind="hnsw")
        print(f"the graph is built in {time.perf_counter() - started:.0f} s: {graph.about}")
        seconds = _p50(
            {
                "HNSW": lambda query: graph.search_rows(query, K),
                "ours, exact": lambda query: exact.search(torch.from_numpy(query), K),
                "faiss-cpu IndexFlatIP": lambda query: flat.search_rows(query, K),
            },
            queries,
        )
        _, right = exact.search(torch.from_numpy(queries), K)
        _, found = graph.search_rows(queries, K)
        hits = [np.isin(one, other) for one, other in zip(found, right.numpy(), strict=True)]
        notes = {"recall@10": {"HNSW": f"{np.mean(hits):.4f}"}}
        sizes = {"items": arguments.items, "dimension": arguments.dimension, "queries": 1}
        report(
            "Single queries, p50", seconds, ours="HNSW", sizes=sizes, notes=notes,
            json_file=arguments.json,
        )  # fmt: skip


def _p50(
    candidates: dict[str, Callable[[np.ndarray[Any, Any]], object]], queries: np.ndarray[Any, Any]
) -> dict[str, float]:
    """Median seconds of each candidate for a query, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for first in range(0, len(queries), TURN):
        for name, run in candidates.items():
            for row in range(first, min(first + TURN, len(queries))):
                started = time.perf_counter()
                run(queries[row : row + 1])
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


if __name__ == "__main__":
    main()
