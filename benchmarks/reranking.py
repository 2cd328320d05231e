"""Re-ranking by the fusion encoder: R@1 of the bridge alone, and of its first hits ordered again.

    mcr demo --out runs/demo
    python -m benchmarks reranking --keypad runs/demo

Queries and gallery are numbers that nothing was trained on, as in the demo. The bridge is trained
with C-MCR's terms and ITM, and if asked with MLM.

Prints Markdown, and adds a line of JSON to --json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.kept import place, working_folder
from benchmarks.machine import machine
from benchmarks.parts import PartedTask, parted_tasks
from bridge.config import TrainSettings
from bridge.projection import in_shared_space
from bridge.tcl.rerank import DEPTH, matcher_of, matches, sides_of, tokens_of
from bridge.training.train import train

ITM = TrainSettings(
    dimension=128, hidden=256, objective="tcl", cma_weight=0.0, imc_weight=0.0, itm_weight=1.0,
    local_batch=64,
)  # fmt: skip
CONFIGURATIONS = {"ITM": ITM, "ITM + MLM": replace(ITM, mlm_weight=1.0)}
COLUMNS = ("bridge alone", "re-ranked", "by the match alone", "right among the first")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keypad", type=Path, required=True, help="output of `mcr demo`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--tasks", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--depth", type=int, default=DEPTH)
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=["ITM"])
    parser.add_argument("--work", type=Path, help="keep the bridges here, to continue after a stop")
    parser.add_argument("--json", type=Path, help="add the result to this file")
    options = parser.parse_args()
    print(f"{machine()}\n\n| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    with working_folder(options.work) as work:
        every = parted_tasks(options.keypad)
        for task in [every[number] for number in options.tasks]:
            for name in options.only:
                settings = replace(CONFIGURATIONS[name], epochs=options.epochs)
                figures = [
                    _measure(
                        task,
                        replace(settings, seed=seed),
                        options.depth,
                        place(work, task.name, name, options.epochs, seed),
                    )
                    for seed in options.seeds
                ]
                cells = [_cell(column) for column in zip(*figures, strict=True)]
                print(f"| {task.name}, {name} | {' | '.join(cells)} |", flush=True)
                if options.json:
                    told = {"task": task.name, "configuration": name, "seeds": options.seeds}
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({**told, "figures": figures}) + "\n")


def _measure(
    task: PartedTask, settings: TrainSettings, depth: int, out: Path
) -> tuple[float, float, float, float]:
    """R@1 alone, re-ranked, by the match alone, and the most that re-ranking could reach."""
    made = train(task.hub, task.leaf, out, settings, device="cpu", resume=True)
    matcher = matcher_of(made)
    _, other = sides_of(made, task.query.modality, task.gallery)
    cosines = in_shared_space(made, task.query) @ in_shared_space(made, task.gallery).T
    best, rows = cosines.topk(depth, dim=1)
    queries = tokens_of(task.query, np.arange(len(task.query)))
    logits = matches(matcher, queries, task.gallery, rows.numpy(), other=other)
    labels = [np.array(list(one.labels or ())) for one in (task.query, task.gallery)]
    right = labels[1][rows.numpy()] == labels[0][:, None]
    combined = best / matcher.spec.temperature + logits
    return (
        float(right[:, 0].mean()), _first(right, combined), _first(right, logits),
        float(right.any(axis=1).mean()),
    )  # fmt: skip


def _first(right: NDArray[np.bool_], scores: torch.Tensor) -> float:
    """R@1 of candidates in the order of their scores."""
    return float(np.take_along_axis(right, scores.argmax(dim=1, keepdim=True).numpy(), 1).mean())


def _cell(figures: Sequence[float]) -> str:
    if len(figures) == 1:
        return f"{figures[0]:.3f}"
    return f"{np.mean(figures):.3f} ± {np.std(figures, ddof=1):.3f}"


if __name__ == "__main__":
    main()
