"""Approximate retrieval of pseudo pairs through a FAISS index, against sparse and exact retrieval.

python -m benchmarks approximate --queries 2048 --items 500000

Embeddings are clustered, as real ones are: of scattered ones no index finds the nearest any faster.
The index is built once, outside of the times, which are of asking it and of scoring what it finds.
Prints the largest cosine error over 64 queries, against the formula in float64.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.clusters import clustered_rows
from benchmarks.machine import machine, medians
from benchmarks.report import parser, report
from bridge.pseudo_pairs.approximate import build_cells, retrieve_approximate
from bridge.pseudo_pairs.exact import retrieve
from bridge.pseudo_pairs.sparse import retrieve_sparse

TEMPERATURE = 0.01
OURS = "approximate"


def main() -> None:
    """Print times and errors."""
    options = parser(__doc__, repeats=1)
    options.add_argument("--queries", type=int, default=2048)
    options.add_argument("--items", type=int, default=500_000)
    options.add_argument("--dimension", type=int, default=512)
    arguments = options.parse_args()
    queries, memory = (
        F.normalize(torch.from_numpy(clustered_rows(rows, arguments.dimension, seed=seed)).float())
        for seed, rows in enumerate((arguments.queries, arguments.items))
    )
    print(machine())
    started = time.perf_counter()
    index = build_cells(memory)
    print(f"the index is built in {time.perf_counter() - started:.0f} s")
    print(retrieve_approximate(queries, memory, temperature=TEMPERATURE, index=index).told())
    candidates: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: retrieve_approximate(
            queries, memory, temperature=TEMPERATURE, index=index
        ).values[0],
        "sparse": lambda: retrieve_sparse(queries, memory, temperature=TEMPERATURE).values[0],
        "exact": lambda: retrieve(queries, memory, temperature=TEMPERATURE)[0],
    }
    some = slice(0, 64)  # the formula in float64 is slow
    weights = torch.softmax(queries[some].double() @ memory.double().T / TEMPERATURE, dim=1)
    right = F.normalize(weights @ memory.double(), dim=1)
    errors = {
        name: f"{float((1 - (right * run()[some].double()).sum(dim=1)).max()):.1e}"
        for name, run in candidates.items()
    }
    seconds = medians(candidates, repeats=arguments.repeats)
    sizes = {name: getattr(arguments, name) for name in ("queries", "items", "dimension")}
    report(
        "Approximate retrieval", seconds, ours=OURS, sizes=sizes,
        notes={"cosine error": errors}, json_file=arguments.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
