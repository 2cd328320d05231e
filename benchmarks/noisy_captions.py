"""TCL's terms beside plain InfoNCE where some captions belong to other items.

    mcr demo --out runs/demo
    python -m benchmarks noisy_captions --keypad runs/demo

A share of the hub items is swapped: in the second space they are embeddings of other items.
Figures are of unseen numbers, the mean of both directions, on both bridges of the demo. Settings
were chosen on seeds that `--seeds` does not name.

Prints Markdown, and adds a line of JSON to --json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept import place, working_folder
from benchmarks.machine import machine
from benchmarks.methods import PUBLISHED, Task, _keypad
from bridge.config import TrainSettings
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.training.train import train
from features.memory import Memory
from features.memory_write import save_memory

TCL: dict[str, Any] = {
    "objective": "tcl",
    "inter_hub_weight": 0.0,
    "inter_leaf_weight": 0.0,
    "tcl_momentum": 0.9,  # 600 steps are few for the published 0.995
}
LEARNT: dict[str, Any] = {**TCL, "tcl_queue": 512}
FIXED: dict[str, Any] = {
    **TCL,
    "tcl_queue": 0,
    "tcl_learn_temperature": False,
    "tcl_temperature": 0.15,
}


def _info_nce(temperature: float) -> TrainSettings:
    return replace(PUBLISHED, inter_hub_temperature=temperature, inter_leaf_temperature=temperature)


CONFIGURATIONS: dict[str, TrainSettings] = {
    "InfoNCE, temperature 0.01 (published)": _info_nce(0.01),
    "InfoNCE, temperature 0.15": _info_nce(0.15),
    "CMA, temperature learnt": replace(PUBLISHED, **LEARNT, imc_weight=0.0),
    "CMA, temperature 0.15": replace(PUBLISHED, **FIXED, imc_weight=0.0),
}


def main() -> None:
    """Print a table for each bridge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keypad", type=Path, required=True, help="output of `mcr demo`")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, metavar="CONFIGURATION")
    parser.add_argument("--tasks", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--work", type=Path, help="keep the bridges here, to continue after a stop")
    parser.add_argument("--json", type=Path, help="add the result to this file")
    options = parser.parse_args()
    print(machine())
    with working_folder(options.work) as work:
        for task in [list(_keypad(options.keypad))[number] for number in options.tasks]:
            columns = [f"{share:.0%} swapped: mAP | R@1" for share in options.shares]
            print(f"\n{task.name}\n\n| | {' | '.join(columns)} |\n|---|{'---|---|' * len(columns)}")
            for name in options.only or CONFIGURATIONS:
                figures = {
                    share: [_quality(task, name, seed, share, work) for seed in options.seeds]
                    for share in options.shares
                }
                cells = [
                    _cell(column) for rows in figures.values() for column in zip(*rows, strict=True)
                ]
                print(f"| {name} | {' | '.join(cells)} |", flush=True)
                if options.json:
                    told = {"task": task.name, "configuration": name, "seeds": options.seeds}
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({**told, "figures": figures}) + "\n")


def _quality(task: Task, name: str, seed: int, share: float, work: Path) -> tuple[float, float]:
    """Class mAP and R@1, the mean of both directions."""
    settings = replace(CONFIGURATIONS[name], seed=seed)
    out = place(work, task.name, name, share, seed)
    hub = (task.hub[0], swapped(task.hub[1], share, seed, out.with_name(f"{out.name}.h5")))
    made = train(
        hub, task.leaf, out, settings,
        trust_encoder=True, device="cpu", resume=True,
    )  # fmt: skip
    found = evaluate_retrieval(made, task.query, task.gallery, trust_encoder=True)
    both = (found.forward, found.backward)
    return (
        sum(one.mean_average_precision for one in both) / 2,
        sum(one.recall[1] for one in both) / 2,
    )


def swapped(memory: Memory, share: float, seed: int, out: Path) -> Memory:
    """The memory with a share of its rows under the ids of others of them."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(memory))[: round(share * len(memory))]
    rows = np.arange(len(memory))
    rows[chosen] = np.roll(chosen, 1)
    return save_memory(
        out, memory.rows(rows), list(memory.ids),
        space=memory.space, modality=memory.modality, overwrite=True,
    )  # fmt: skip


def _cell(figures: Sequence[float]) -> str:
    if len(figures) == 1:
        return f"{figures[0]:.3f}"
    return f"{np.mean(figures):.3f} ± {np.std(figures, ddof=1):.3f}"


if __name__ == "__main__":
    main()
