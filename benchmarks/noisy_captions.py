"""TCL's terms beside plain InfoNCE where some captions belong to other items.

    mcr demo --out runs/demo
    python -m benchmarks noisy_captions --keypad runs/demo

A share of the hub items is swapped: in the second space they are embeddings of other items.
Figures are of unseen numbers, the mean of both directions, on both bridges of the demo, and how
they differ from InfoNCE at its best temperature, with the 95 % interval, paired by seed. Settings
were chosen on seeds that `--seeds` does not name.

Prints Markdown, and adds a line of JSON to --json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept import place, working_folder
from benchmarks.machine import machine
from benchmarks.methods import PUBLISHED, Task, _keypad
from benchmarks.paired import cell, difference
from benchmarks.parts import parted_tasks
from benchmarks.reranking import look_again
from bridge.config import TrainSettings
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.training.train import train
from features.memories.memory import Memory
from features.memories.writing import save_memory

TCL: dict[str, Any] = {
    "objective": "tcl",
    "inter_hub_weight": 0.0,
    "inter_leaf_weight": 0.0,
    "tcl_momentum": 0.9,  # 600 steps are few for the published 0.995
}
LEARNT: dict[str, Any] = {**TCL, "tcl_queue": 512}
# Weight 2, as C-MCR sums the terms of hub and leaf that CMA takes the mean of.
FIXED: dict[str, Any] = {
    **TCL, "tcl_queue": 0, "tcl_learn_temperature": False, "cma_weight": 2.0, "imc_weight": 0.0,
}  # fmt: skip
MATCHED: dict[str, Any] = {
    "objective": "tcl", "cma_weight": 0.0, "imc_weight": 0.0, "itm_weight": 1.0, "local_batch": 64,
    "itm_temperature": 0.03,
}  # fmt: skip
BEST = 0.3  # temperature of InfoNCE


def _info_nce(temperature: float, **more: Any) -> TrainSettings:
    return replace(
        PUBLISHED, inter_hub_temperature=temperature, inter_leaf_temperature=temperature, **more
    )


REFERENCE = f"InfoNCE, temperature {BEST}"
CONFIGURATIONS: dict[str, TrainSettings] = {
    REFERENCE: _info_nce(BEST),
    "InfoNCE, temperature 0.01 (published)": _info_nce(0.01),
    "InfoNCE, temperature 0.15": _info_nce(0.15),
    "CMA, temperature learnt": replace(PUBLISHED, **LEARNT, imc_weight=0.0),
    f"CMA, temperature {BEST}": replace(PUBLISHED, **FIXED, tcl_temperature=BEST),
    f"{REFERENCE}, re-ranked by ITM": _info_nce(BEST, **MATCHED),
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
            for share in options.shares:
                _report(task, share, options, work)


def _report(task: Task, share: float, options: argparse.Namespace, work: Path) -> None:
    """Print the table of a bridge and a share."""
    print(f"\n{task.name}, {share:.0%} swapped\n")
    print("| | mAP | R@1 | mAP - reference | R@1 - reference |\n|---|---|---|---|---|")
    reference: list[tuple[float, ...]] = []
    for name in dict.fromkeys([REFERENCE, *(options.only or CONFIGURATIONS)]):
        figures = [_quality(task, name, seed, share, options, work) for seed in options.seeds]
        columns = list(zip(*figures, strict=True))
        reference = reference or columns
        cells = [cell(column) for column in columns]
        pairs = zip(columns, reference, strict=True)
        cells += ["" if name == REFERENCE else difference(*pair) for pair in pairs]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        if options.json:
            told = {"task": task.name, "share": share, "configuration": name}
            with options.json.open("a", encoding="utf-8") as file:
                line = {**told, "seeds": options.seeds, "figures": figures}
                file.write(json.dumps(line) + "\n")


def _quality(
    task: Task, name: str, seed: int, share: float, options: argparse.Namespace, work: Path
) -> tuple[float, float]:
    """Class mAP and R@1, the mean of both directions."""
    settings = replace(CONFIGURATIONS[name], seed=seed)
    leaf, query, gallery = task.leaf, task.query, task.gallery
    if settings.need.fusion:
        ((leaf, query, gallery),) = (
            (one.leaf, one.query, one.gallery)
            for one in parted_tasks(options.keypad)
            if one.query.space == query.space
        )
    out = place(work, task.name, name, share, seed)
    hub = (task.hub[0], swapped(task.hub[1], share, seed, out.with_name(f"{out.name}.h5")))
    made = train(
        hub, leaf, out, settings,
        trust_encoder=True, device="cpu", resume=True,
    )  # fmt: skip
    if settings.need.fusion:
        again = [look_again(made, *ends) for ends in ((query, gallery), (gallery, query))]
        both = [one.figures(one.together) for one in again]
    else:
        found = evaluate_retrieval(made, query, gallery, trust_encoder=True)
        both = [found.forward, found.backward]
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


if __name__ == "__main__":
    main()
