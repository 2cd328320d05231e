"""Zero-shot classification with the first 1, 5 and 10 prompt templates: CWCL against InfoNCE.

    examples/digits/run.sh DATA/digits runs/digits
    python -m benchmarks zero_shot --digits runs/digits

CWCL's claim is that a space which it made depends less on its prompts (arXiv 2309.14580, section
4.1). Two bridges between the small spaces of the example, alike but for the objective, classify the
real test sounds and test pictures by prompts that are embedded in the other space, so that every
answer crosses the bridge. Half of the templates are worded as no caption that the encoders were
fitted on. Both are trained with the same seeds. Prints Markdown: top-1, mean and standard deviation
over the seeds, and the spread, the highest less the lowest of the three numbers of templates.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from bridge.config import TrainSettings
from bridge.evaluation.prompts import FIRST, read_templates
from bridge.evaluation.zero_shot import zero_shot_result
from bridge.search import Embedder
from bridge.training.train import train
from features.memories.memory import Memory

PLAIN = TrainSettings(dimension=128, hidden=256, holdout=0.0)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "InfoNCE (C-MCR, published)": {},
    "CWCL, published": {"objective": "cwcl"},
    "CWCL, sharpness 4": {"objective": "cwcl", "cwcl_sharpness": 4.0},
    "CWCL, sharpness 16": {"objective": "cwcl", "cwcl_sharpness": 16.0},
}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = Path(__file__).parents[1] / "examples" / "digits" / "templates.txt"
Figures = dict[str, dict[str, float]]  # top-1 by task and number of templates
# What is classified, and the space whose texts name the classes: the other one.
TASKS = {"sounds": "digits-clip", "pictures": "digits-clap"}
FILES = {"sounds": "sounds-test.h5", "pictures": "images-test.h5"}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="benchmarks zero_shot", description=__doc__)
    parser.add_argument("--digits", type=Path, required=True)
    parser.add_argument("--templates", type=Path, default=TEMPLATES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, nargs="+", default=[PLAIN.epochs])
    parser.add_argument("--log", type=Path, default=Path("zero_shot.jsonl"))
    options = parser.parse_args()
    print(machine())
    templates = read_templates(options.templates)
    done = _read(options.log)
    for epochs in options.epochs:
        figures: dict[str, list[Figures]] = {name: [] for name in OBJECTIVES}
        for seed in range(options.seeds):
            for name, changed in OBJECTIVES.items():
                key = f"{name}, {epochs} epochs, seed {seed}"
                if key not in done:
                    settings = replace(PLAIN, epochs=epochs, seed=seed, **changed)
                    done[key] = _run(options.digits, templates, settings)
                    with options.log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({key: done[key]}) + "\n")
                figures[name].append(done[key])
        for task in TASKS:
            runs = {name: [one[task] for one in several] for name, several in figures.items()}
            _table(f"{task}, {epochs} epochs", runs)


def _read(log: Path) -> dict[str, Figures]:
    """Runs that were finished before: the benchmark can be stopped and continued."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return {key: figures for line in lines for key, figures in json.loads(line).items()}


def _run(folder: Path, templates: Sequence[str], settings: TrainSettings) -> Figures:
    """Top-1 of both tasks with the first templates, by how many they are."""
    with tempfile.TemporaryDirectory() as work:
        bridge = train(
            [Memory(folder / f"texts-{space}.h5") for space in ("clip", "clap")],
            [Memory(folder / "images-train.h5"), Memory(folder / "sounds-train.h5")],
            Path(work) / "bridge",
            settings,
            device="cpu",
        )
    classes = {str(digit): word for digit, word in enumerate(WORDS)}
    found = {}
    for task, via in TASKS.items():
        result = zero_shot_result(
            Memory(folder / FILES[task]), classes, templates, Embedder(device="cpu"),
            bridge=bridge, via=via, resamples=0,
        )  # fmt: skip
        found[task] = {part: one["top-1"] for part, one in result.figures.items()}
    return found


def _table(title: str, figures: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Mean and standard deviation over the seeds, a row for each objective."""
    parts = [f"{k} template{'s' * (k > 1)}" for k in FIRST]
    print(
        f"\n{title}, top-1\n\n| | {' | '.join(parts)} | spread |\n|---|{'---|' * (len(parts) + 1)}"
    )
    for name, runs in figures.items():
        columns = [[run[part] for run in runs] for part in parts]
        columns.append([max(run.values()) - min(run.values()) for run in runs])
        cells = [_cell(column) for column in columns]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _cell(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
