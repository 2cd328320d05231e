"""Where in a larger picture is the number that a sound dials? With LMI and without.

    mcr demo --out runs/demo
    python -m benchmarks localisation --keypad runs/demo

Pictures of 64 x 128 pixels show two handwritten numbers at random places. Bridges train without
pairs on such pictures of training numbers, on sounds and on sentences; they are measured on
pictures of numbers that nothing was trained on. See `benchmarks.scenes`.

The measures are those of `mcr eval localisation`, of maps cut at --threshold of their range, and
at their median. Pointing: the highest pixel is in the number's box. Differences are paired by
seed and picture, with 95 % intervals of a bootstrap that draws both again.

Prints Markdown, and adds a line of JSON to --json.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.kept import place, working_folder
from benchmarks.machine import machine
from benchmarks.scenes import TestScenes, test_scenes, training_scenes
from bridge.artefact import Bridge
from bridge.config import TrainSettings
from bridge.evaluation.localisation import QueryRows, localisation_result
from bridge.metrics.maps import SUCCESS, success_areas, truth_map
from bridge.training.train import train
from features.memories.memory import Memory
from features.progress import SILENT

# Chosen for C-MCR alone, with another seed and on other pictures than those that are reported.
THRESHOLD = 0.75
GLOBAL = TrainSettings(
    dimension=128, hidden=256, inter_hub_temperature=0.05, inter_leaf_temperature=0.05
)
LMI: dict[str, Any] = {
    "objective": "tcl",
    "cma_weight": 0.0,
    "imc_weight": 0.0,
    "lmi_weight": 4.0,
    "local_batch": 64,
    "tcl_momentum": 0.9,  # 600 steps are few for the published 0.995
}
CONFIGURATIONS = {
    "C-MCR": GLOBAL,
    "C-MCR + LMI": replace(GLOBAL, **LMI),
    "C-MCR + LMI through parts": replace(GLOBAL, **LMI, lmi_from="parts"),
}
COLUMNS = ("pointing", "mean cIoU", "AUC", "success at 0.5", "mean cIoU at the median")
BASE = "C-MCR"
RESAMPLES = 2000
SEED = 0  # of the pictures


@dataclass(frozen=True)
class Task:
    """Memories to train on, and pictures and sounds to measure on."""

    hub: tuple[Memory, Memory]
    leaf: tuple[Memory, Memory]
    scenes: TestScenes
    sounds: Memory


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keypad", type=Path, required=True, help="output of `mcr demo`")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--picture-seed", type=int, default=SEED)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--work", type=Path, help="keep the bridges here, to continue after a stop")
    parser.add_argument("--json", type=Path, help="add the result to this file")
    options = parser.parse_args()
    task = _task(options.keypad, options.pictures, options.picture_seed)
    print(f"{machine()}\n\n| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    found: dict[str, NDArray[np.float64]] = {}
    with working_folder(options.work) as work:
        for name in options.only:
            measured = [
                _measure(
                    task,
                    replace(CONFIGURATIONS[name], seed=seed),
                    place(work, name, seed),
                    options.threshold,
                )
                for seed in options.seeds
            ]
            found[name] = np.stack(measured)
            print(_row(name, [_spread(one) for one in found[name].mean(axis=1).T]), flush=True)
    for name in options.only:
        if name != BASE and BASE in found and len(options.seeds) > 1:
            print(_row(f"{name}, less {BASE}", differences(found[name], found[BASE])), flush=True)
    if options.json:
        _write(options.json, options.seeds, found)


def _task(keypad: Path, pictures: int, seed: int) -> Task:
    """The demo's memories, and scenes that are drawn and embedded unless they are there."""
    memories, scenes = keypad / "memories", keypad / "scenes"
    sounds = Memory(memories / "audio-mini-clap-test3.h5")
    heard = Memory(memories / "audio-mini-clap-train.h5")
    seen = training_scenes(scenes / "train", len(heard), SILENT)
    return Task(
        (
            Memory(memories / "text-mini-clap-train.h5"),
            Memory(memories / "text-mini-clip-train.h5"),
        ),
        (heard, seen),
        test_scenes(scenes / f"test-{pictures}-{seed}", sounds, pictures, seed, SILENT),
        sounds,
    )


def _measure(
    task: Task, settings: TrainSettings, out: Path, threshold: float
) -> NDArray[np.float64]:
    """The columns' figures of each picture, (n, columns); those of all are their means."""
    made = train(task.hub, task.leaf, out, settings, device="cpu", resume=True, trust_encoder=True)
    cut, median = (_ious(task, made, one) for one in (threshold, None))
    columns = (pointing(task, made), cut, success_areas(cut), (cut >= SUCCESS).double(), median)
    return torch.stack(columns, dim=1).numpy()


def _ious(task: Task, made: Bridge, threshold: float | None) -> Tensor:
    """cIoU of each picture, by the protocol."""
    result = localisation_result(
        task.scenes.maps(made), task.sounds, task.scenes.boxes,
        bridge=made, threshold=threshold, resamples=0, trust_encoder=True,
    )  # fmt: skip
    return result.samples["all"].tensors()["ciou"]


def pointing(task: Task, made: Bridge) -> Tensor:
    """Of each picture, whether its map is highest in the box."""
    maps = task.scenes.maps(made)
    queries = QueryRows(maps, task.sounds, made, trust_encoder=True)
    hits = []
    for sample in task.scenes.boxes.samples:
        found = queries.find(sample.image, sample.audio, Counter())
        assert found is not None  # every picture and sound was drawn here
        highest = maps.map(found.picture, queries.rows[found.sound]).flatten().argmax()
        hits.append(bool(truth_map(sample.boxes, size=maps.size).flatten()[highest] > 0))
    return torch.tensor(hits).double()


def differences(found: NDArray[np.float64], base: NDArray[np.float64]) -> list[str]:
    """Mean difference of every figure with its 95 % interval, from (seeds, pictures, columns)."""
    apart, rng = found - base, np.random.default_rng(0)
    seeds, pictures, _ = apart.shape
    drawn = [
        apart[rng.integers(seeds, size=seeds)][:, rng.integers(pictures, size=pictures)]
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile([one.mean(axis=(0, 1)) for one in drawn], [2.5, 97.5], axis=0)
    return [
        f"{mean:+.3f} [{least:+.3f}, {most:+.3f}]"
        for mean, least, most in zip(apart.mean(axis=(0, 1)), low, high, strict=True)
    ]


def _write(path: Path, seeds: Sequence[int], found: Mapping[str, NDArray[np.float64]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        for name, figures in found.items():
            means = figures.mean(axis=1).tolist()
            told = {"configuration": name, "seeds": seeds, "columns": COLUMNS, "figures": means}
            file.write(json.dumps(told) + "\n")


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _spread(figures: NDArray[np.float64]) -> str:
    if len(figures) == 1:
        return f"{figures[0]:.3f}"
    return f"{np.mean(figures):.3f} ± {np.std(figures, ddof=1):.3f}"


if __name__ == "__main__":
    main()
