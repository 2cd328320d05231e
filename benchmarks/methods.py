"""All methods on all data sets, hub items cut to a few: the table of docs/results.md.

    examples/digits/run.sh DATA/digits runs/digits
    mcr demo --out runs/demo
    python -m benchmarks methods --digits runs/digits --keypad runs/demo \
        --vggsound DATA/vggsound309/texts.npz

Every figure is of a bridge that `bridge.train` made from memories. On digits and keypad numbers it
is class mAP, the mean of both directions, on items that nothing was trained on; the hub items are
drawn anew for every seed, and true pairs are a random item of either leaf for each hub item's
class. On vggsound309 it is R@1, the mean of both directions, in 5-fold cross-validation over the
names. Prints Markdown, and writes every single figure as a line of JSON to --log.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.machine import machine
from benchmarks.vggsound309 import FOLDS, SETTINGS, recalls
from bridge.config import CLOSED_FORMS, TrainSettings, load_settings
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.training.train import train
from features.encoders import load_encoder
from features.memories.memory import Memory
from features.memories.writing import save_memory
from features.space import Modality

NARROW: dict[str, Any] = {"dimension": 128, "holdout": 0.0}  # for spaces as small as these
SMALL: dict[str, Any] = {**NARROW, "hidden": 256}
PUBLISHED = TrainSettings(**SMALL)
LINEAR = replace(load_settings(SETTINGS), **SMALL)
METHODS: dict[str, TrainSettings] = {
    "Procrustes": TrainSettings(method="procrustes", **NARROW),
    "Procrustes, gap kept": TrainSettings(method="procrustes", centring="none", **NARROW),
    "ridge": TrainSettings(method="ridge", **NARROW),
    "ridge, gap kept": TrainSettings(method="ridge", centring="none", **NARROW),
    "CCA": TrainSettings(method="cca", **NARROW),
    "CCA, gap kept": TrainSettings(method="cca", centring="none", **NARROW),
    "relative representations": TrainSettings(method="relative", holdout=0.0),
    "hub routing": TrainSettings(method="routing", holdout=0.0),
    "C-MCR, published": PUBLISHED,
    "C-MCR, leaf-centred pseudo pairs": replace(PUBLISHED, pseudo_pairs="leaf"),
    "C-MCR, one linear map": LINEAR,
    "CWCL": replace(PUBLISHED, objective="cwcl"),
    "routed distillation": replace(PUBLISHED, objective="distil"),
    "best": replace(PUBLISHED, method="mixture"),
}
NEED_LEAVES = ("C-MCR, leaf-centred pseudo pairs", "routed distillation")
TRUE_PAIRS = {"true pairs, published": PUBLISHED, "true pairs, one linear map": LINEAR}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = (
    "{}", "the digit {}", "this is {}", "the number {}", "it says {}", "an example of {}",
    "this is the digit {}", "this is the number {}", "it says the digit {}",
    "it says the number {}", "an example of the digit {}", "an example of the number {}",
    "this is an example of {}", "the digit is {}", "the number is {}",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Two spaces, their hub and leaf memories, and what is asked of the bridge."""

    name: str
    hub: tuple[Memory, Memory]
    classes: Sequence[str]  # of the hub items
    leaf: tuple[Memory, Memory]
    query: Memory
    gallery: Memory


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="benchmarks methods", description=__doc__)
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--keypad", type=Path)
    parser.add_argument("--vggsound", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--names", type=int, nargs="+", default=[50, 100, 200, 247])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*METHODS, *TRUE_PAIRS], metavar="METHOD")
    parser.add_argument("--log", type=Path, default=Path("methods.jsonl"))
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tasks = [_digits(options.digits, work)] if options.digits else []
        tasks += _keypad(options.keypad) if options.keypad else []
        for task in tasks:
            columns = {
                f"{size} hub items": {
                    method: [_run(task, method, size, seed, work) for seed in range(options.seeds)]
                    for method in _chosen(options.only, [*METHODS, *TRUE_PAIRS])
                }
                for size in options.sizes
            }
            _report(f"{task.name}, class mAP", columns, options.log)
        if options.vggsound:
            data = np.load(options.vggsound)
            columns = {
                f"{names} names": {
                    method: [
                        _folds(data, method, names, seed, work)
                        for seed in range(min(3, options.seeds))
                    ]
                    for method in _chosen(options.only, METHODS)
                    if method not in NEED_LEAVES
                }
                for names in options.names
            }
            _report("vggsound309, R@1", columns, options.log)


def _chosen(
    only: Sequence[str] | None, all_methods: Sequence[str] | Mapping[str, Any]
) -> list[str]:
    return [name for name in all_methods if only is None or name in only]


def _digits(folder: Path, work: Path) -> Task:
    """Real digits, with 300 sentences as hub, embedded by the encoders of the example."""
    sentences = [
        (template.format(form), str(digit))
        for digit, word in enumerate(WORDS)
        for form in (str(digit), word)
        for template in TEMPLATES
    ]
    hub = []
    for space in ("clap", "clip"):
        encoder = load_encoder(f"mini:{folder}/digits-{space}.safetensors", device="cpu")
        make_input = encoder.input("text")
        rows = encoder.encode([make_input(text) for text, _ in sentences], "text")
        ids = [text for text, _ in sentences]
        hub.append(
            save_memory(
                work / f"sentences-{space}.h5", rows, ids, space=encoder.space.name, modality="text"
            )
        )
    return Task(
        "digits, audio and image",
        (hub[0], hub[1]),
        [digit for _, digit in sentences],
        (Memory(folder / "sounds-train.h5"), Memory(folder / "images-train.h5")),
        Memory(folder / "sounds-test.h5"),
        Memory(folder / "images-test.h5"),
    )


def _keypad(folder: Path) -> Iterator[Task]:
    """Keypad numbers, both bridges of the demo."""
    for left, right, hub in (
        ("clap-audio", "clip-image", "text"),
        ("ulip-points", "clip-text", "image"),
    ):
        (one, query), (other, gallery) = (name.split("-") for name in (left, right))
        memories = folder / "memories"
        hubs = tuple(Memory(memories / f"{hub}-mini-{space}-train.h5") for space in (one, other))
        assert list(hubs[0].ids) == list(hubs[1].ids)
        yield Task(
            f"keypad, {query} and {gallery}",
            (hubs[0], hubs[1]),
            list(hubs[0].labels or ()),
            (
                Memory(memories / f"{query}-mini-{one}-train.h5"),
                Memory(memories / f"{gallery}-mini-{other}-train.h5"),
            ),
            Memory(memories / f"{query}-mini-{one}-test3.h5"),
            Memory(memories / f"{gallery}-mini-{other}-test.h5"),
        )


def _run(task: Task, method: str, size: int, seed: int, work: Path) -> float:
    """Class mAP, the mean of both directions."""
    rows = np.random.default_rng(seed).permutation(len(task.classes))[:size]
    paired = method in TRUE_PAIRS
    settings = replace((TRUE_PAIRS if paired else METHODS)[method], seed=seed)
    if paired:
        sources = [(memory, _partners(memory, task, rows, seed)) for memory in task.leaf]
    else:
        sources = [(memory, rows.tolist()) for memory in task.hub]
    hub = [_part(memory, part, work) for memory, part in sources]
    made = train(
        hub, [] if paired else task.leaf, work / "bridge", settings,
        paired=paired, trust_encoder=True, device="cpu", overwrite=True,
    )  # fmt: skip
    found = evaluate_retrieval(made, task.query, task.gallery, trust_encoder=True)
    both = (found.forward.mean_average_precision, found.backward.mean_average_precision)
    return sum(both) / 2


def _partners(leaf: Memory, task: Task, rows: np.ndarray[Any, Any], seed: int) -> list[int]:
    """A random leaf item of each hub item's class."""
    rng = random.Random(seed)
    by_class: dict[str, list[int]] = {}
    for row, label in enumerate(leaf.labels or ()):
        by_class.setdefault(label, []).append(row)
    return [rng.choice(by_class[task.classes[row]]) for row in rows]


def _part(memory: Memory, rows: Any, work: Path) -> Memory:
    return save_memory(
        work / f"part-{memory.space}.h5",
        memory.tensor(np.asarray(rows)),
        [str(number) for number in range(len(rows))],
        space=memory.space,
        modality=memory.modality,
        overwrite=True,
    )


def _folds(data: Any, method: str, names: int, seed: int, work: Path) -> float:
    """R@1 of held-out names, the mean of both directions and of all folds."""
    order = np.random.default_rng(0).permutation(len(data["names"]))
    settings = replace(METHODS[method], seed=seed)
    if settings.method not in ("relative", "routing"):
        settings = replace(settings, dimension=512)
    if settings.method not in CLOSED_FORMS:
        settings = replace(settings, hidden=1024)
    found = []
    for fold in np.array_split(order, FOLDS):
        fit = np.random.default_rng(seed).permutation(np.setdiff1d(order, fold))[:names]
        hub = [_texts(data, space, fit, work) for space in ("clip", "clap")]
        made = train(hub, [], work / "bridge", settings, device="cpu", overwrite=True)
        shared: list[Tensor] = [
            made.project(torch.from_numpy(data[space][fold]).float(), space, "text")
            for space in ("clip", "clap")
        ]
        found.append(recalls(*(F.normalize(rows, dim=1) for rows in shared)).mean())
    return float(np.mean(found))


def _texts(data: Any, space: str, rows: Any, work: Path) -> Memory:
    modality: Modality = "text"
    return save_memory(
        work / f"part-{space}.h5",
        data[space][rows],
        [str(name) for name in data["names"][rows]],
        space=space,
        modality=modality,
        overwrite=True,
    )


def _report(title: str, columns: Mapping[str, Mapping[str, list[float]]], log: Path) -> None:
    """A table: mean and standard deviation over the seeds."""
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for method in next(iter(columns.values())):
        cells = [
            f"{np.mean(figures[method]):.3f} ± {np.std(figures[method], ddof=1):.3f}"
            if len(figures[method]) > 1
            else f"{figures[method][0]:.3f}"
            for figures in columns.values()
        ]
        print(f"| {method} | {' | '.join(cells)} |", flush=True)
    with log.open("a", encoding="utf-8") as file:
        for column, figures in columns.items():
            for method, values in figures.items():
                line = {"task": title, "hub": int(re.findall(r"\d+", column)[0])}
                file.write(json.dumps({**line, "method": method, "figures": values}) + "\n")


if __name__ == "__main__":
    main()
