"""How many steps the published recipe's quality takes, from random weights and from warm starts.

    mcr demo --out runs/demo
    python -m benchmarks starts --keypad runs/demo

Quality is class mAP, the mean of both directions, on the keypad numbers of the demo. Schedules
are whole ones: the learning rate falls to zero by the last epoch of each. The quick recipe is the
published one with the settings of `QUICK`. Prints Markdown, and adds a line of JSON to --json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.methods import PUBLISHED, Task, _digits, _keypad
from bridge.config import TrainSettings
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.training.train import train

# Found on seeds 0 and 1 of the keypad numbers.
QUICK: dict[str, Any] = {
    "learning_rate": 0.02,
    "weight_decay": 1.0,
    "inter_hub_temperature": 0.05,
    "inter_leaf_temperature": 0.05,
}
RECIPES: dict[str, TrainSettings] = {
    "published": PUBLISHED,
    "published, ridge start": replace(PUBLISHED, start="ridge"),
    "quick": replace(PUBLISHED, **QUICK),
    "quick, ridge start": replace(PUBLISHED, start="ridge", **QUICK),
}


def main() -> None:
    """Print a table for each task."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keypad", type=Path, help="output of `mcr demo`")
    parser.add_argument("--digits", type=Path, help="output of examples/digits/run.sh")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3, 7, 36])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--json", type=Path, help="add the result to this file")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tasks = list(_keypad(options.keypad)) if options.keypad else []
        tasks += [_digits(options.digits, work)] if options.digits else []
        for task in tasks:
            items = len(task.classes)
            steps = math.ceil(items / PUBLISHED.batch_for(items))
            print(f"\n{task.name}: class mAP after so many epochs of {steps} steps\n")
            print(f"| | {' | '.join(map(str, options.epochs))} |")
            print(f"|---|{'---|' * len(options.epochs)}")
            for recipe in options.recipes:
                figures = [
                    [_quality(task, replace(RECIPES[recipe], epochs=epochs, seed=seed), work)
                     for seed in options.seeds]
                    for epochs in options.epochs
                ]  # fmt: skip
                print(f"| {recipe} | {' | '.join(map(_cell, figures))} |", flush=True)
                if options.json:
                    told = {"task": task.name, "recipe": recipe, "epochs": options.epochs}
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({**told, "figures": figures}) + "\n")


def _quality(task: Task, settings: TrainSettings, work: Path) -> float:
    made = train(
        task.hub, task.leaf, work / "bridge", settings,
        trust_encoder=True, device="cpu", overwrite=True,
    )  # fmt: skip
    found = evaluate_retrieval(made, task.query, task.gallery, trust_encoder=True)
    return (found.forward.mean_average_precision + found.backward.mean_average_precision) / 2


def _cell(figures: Sequence[float]) -> str:
    if len(figures) == 1:
        return f"{figures[0]:.3f}"
    return f"{np.mean(figures):.3f} ± {np.std(figures, ddof=1):.3f}"


if __name__ == "__main__":
    main()
