"""Pseudo pairs read from the file beside the leaf memory, against retrieving them again.

python -m benchmarks kept_pairs --queries 20000 --items 100000

Both end with the same bits, which is checked. Embeddings are clustered; the files lie in the
folder of temporary files and in the page cache.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.clusters import clustered_rows
from benchmarks.machine import machine, medians
from benchmarks.report import parser, report
from bridge.config import TrainSettings
from bridge.pseudo_pairs.cache import kept_pairs
from bridge.training.training_set import FrozenRows, build_training_set, check_memories, load_rows
from features.memories.memory import Memory
from features.memories.writing import save_memory
from features.space import Modality

OURS, AGAIN = "kept", "retrieved again"


def main() -> None:
    """Print times, and the size of the file."""
    options = parser(__doc__, repeats=3)
    options.add_argument("--queries", type=int, default=20_000)
    options.add_argument("--items", type=int, default=100_000)
    options.add_argument("--dimension", type=int, default=512)
    arguments = options.parse_args()
    settings = TrainSettings(holdout=0.0)
    with tempfile.TemporaryDirectory() as name:
        hub = [
            _memory(Path(name), space, "text", arguments.queries, arguments.dimension)
            for space in ("clip", "other")
        ]
        leaf = _memory(Path(name), "clip", "image", arguments.items, arguments.dimension)
        plain, keeping = (_frozen(hub, leaf, cache=cache) for cache in (False, True))
        first, second, without = (
            build_training_set(frozen, settings).rows["clip"]["leaf"]
            for frozen in (keeping, keeping, plain)
        )
        if not (torch.equal(first, without) and torch.equal(second, without)):
            raise SystemExit("pseudo pairs differ with and without the cache")
        candidates = {
            OURS: lambda: build_training_set(keeping, settings),
            AGAIN: lambda: build_training_set(plain, settings),
        }
        seconds = medians(candidates, repeats=arguments.repeats)
        (file,) = kept_pairs(leaf.path)
        size = file.stat().st_size
    print(machine())
    sizes = {name: getattr(arguments, name) for name in ("queries", "items", "dimension")}
    report(
        "Pseudo pairs, kept", seconds, ours=OURS, sizes=sizes,
        notes={"file": {OURS: f"{size / 1e6:.0f} MB"}}, json_file=arguments.json,
    )  # fmt: skip


def _memory(folder: Path, space: str, modality: Modality, items: int, dimension: int) -> Memory:
    rows = clustered_rows(items, dimension, seed=len(modality))
    ids = [str(number) for number in range(items)]
    return save_memory(folder / f"{space}-{modality}.h5", rows, ids, space=space, modality=modality)


def _frozen(hub: list[Memory], leaf: Memory, *, cache: bool) -> FrozenRows:
    sources = check_memories(hub, [leaf])
    return load_rows(sources, holdout=0.0, seed=0, device=torch.device("cpu"), cache=cache)


if __name__ == "__main__":
    main()
