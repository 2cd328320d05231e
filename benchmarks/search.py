"""Exact top-10 for 1, 32 and 1,024 queries against what else finds it.

python -m benchmarks search --items 1000000 --dimension 512

All are given unit vectors that are in RAM: ours the float16 rows of a memory, with its copy made
before (`ExactSearch`, whose making is a line of its own) and without (`nearest`, which reads the
rows as they are on the disk); the peers float32. faiss-cpu's and sentence-transformers' are
skipped where they are not installed. Every answer is compared with ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.clusters import clustered_rows
from benchmarks.machine import medians
from benchmarks.report import parser, report
from features.search.nearest import ExactSearch, nearest

K = 10
OURS = "ours, kept"
Found = Callable[[], Any]


def main() -> None:
    """Print a table for each number of queries."""
    options = parser(__doc__, repeats=3)
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--dimension", type=int, default=512)
    options.add_argument("--queries", type=int, nargs="+", default=[1, 32, 1024])
    options.add_argument("--once", action="store_true", help="also without a kept copy")
    arguments = options.parse_args()
    stored = clustered_rows(arguments.items, arguments.dimension)
    wide = torch.from_numpy(stored).float()
    started = time.perf_counter()
    kept = ExactSearch(stored, unit=True)
    print(f"the copy for many searches is made in {time.perf_counter() - started:.2f} s")
    flat = _faiss(wide)
    for count in arguments.queries:
        asked = torch.from_numpy(clustered_rows(count, arguments.dimension, seed=1)).float()
        candidates = _candidates(kept, stored, wide, flat, asked, once=arguments.once)
        notes = _agreement(candidates)
        seconds = medians(candidates, repeats=arguments.repeats)
        sizes = {"queries": count, "items": arguments.items, "dimension": arguments.dimension}
        report(
            "Exact top-10", seconds, ours=OURS, sizes=sizes,
            notes={"same rows": notes}, json_file=arguments.json,
        )  # fmt: skip


def _candidates(
    kept: ExactSearch, stored: Any, wide: Tensor, flat: Any, asked: Tensor, *, once: bool
) -> dict[str, Found]:
    found: dict[str, Found] = {OURS: lambda: kept.search(asked, K)[1].numpy()}
    if once:
        found["ours, once"] = lambda: nearest(asked, stored, K, unit=True)[1].numpy()
    if flat is not None:
        found["faiss-cpu IndexFlatIP"] = lambda: flat.search(asked.numpy(), K)[1]
    semantic = _semantic_search()
    if semantic is not None:
        found["sentence-transformers semantic_search"] = lambda: [
            [hit["corpus_id"] for hit in hits]
            for hits in semantic(asked, wide, top_k=K, score_function=_dot)
        ]
    found["torch.mm and topk"] = lambda: torch.mm(asked, wide.T).topk(K, dim=1).indices.numpy()
    return found


def _agreement(candidates: dict[str, Found]) -> dict[str, object]:
    """The share of the rows that a candidate finds as well as we do."""
    ours = candidates[OURS]()
    shares: dict[str, object] = {}
    for name, run in candidates.items():
        theirs = np.asarray(run())
        same = [len(np.intersect1d(*pair)) / K for pair in zip(ours, theirs, strict=True)]
        shares[name] = f"{np.mean(same):.4f}"
    return shares


def _faiss(wide: Tensor) -> Any:
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: skipped")
        return None
    flat = faiss.IndexFlatIP(wide.shape[1])
    flat.add(wide.numpy())
    return flat


def _semantic_search() -> Any:
    try:
        from sentence_transformers.util import (  # type: ignore[import-not-found]
            semantic_search,
        )
    except ImportError:
        print("sentence-transformers is not installed: skipped")
        return None
    return semantic_search


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Their cosine would normalise all rows again for every search."""
    return left @ right.T


if __name__ == "__main__":
    main()
