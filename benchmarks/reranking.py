"""Re-ranking by the fusion encoder: R@1 of the bridge alone, and of its first hits ordered again.

    mcr demo --out runs/demo
    python -m benchmarks reranking --keypad runs/demo

Queries and gallery are numbers that nothing was trained on, as in the demo. The bridge is trained
with C-MCR's terms and ITM, and if asked with MLM. The gain has its 95 % interval, paired by seed.

Prints Markdown, and adds a line of JSON to --json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.kept import place, working_folder
from benchmarks.machine import machine
from benchmarks.paired import cell, difference
from benchmarks.parts import PartedTask, parted_tasks
from bridge.artefact import Bridge
from bridge.config import TrainSettings
from bridge.evaluation.retrieval import relevance_of
from bridge.metrics.retrieval import Retrieval, retrieval
from bridge.projection import in_shared_space
from bridge.tcl.rerank import DEPTH, matcher_of, matches, sides_of, tokens_of
from bridge.training.train import train
from features.memories.memory import Memory

ITM = TrainSettings(
    dimension=128, hidden=256, objective="tcl", cma_weight=0.0, imc_weight=0.0, itm_weight=1.0,
    local_batch=64,
)  # fmt: skip
CONFIGURATIONS = {"ITM": ITM, "ITM + MLM": replace(ITM, mlm_weight=1.0)}
COLUMNS = ("bridge alone", "re-ranked", "gain", "by the match alone", "right among the first")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keypad", type=Path, required=True, help="output of `mcr demo`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
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
                alone, together, match, reach = zip(*figures, strict=True)
                gain = difference(together, alone)
                cells = [cell(alone), cell(together), gain, cell(match), cell(reach)]
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
    found = look_again(made, task.query, task.gallery, depth)
    alone, together, match = (
        found.figures(values).recall[1] for values in (found.best, found.together, found.logits)
    )
    reach = found.right.gather(1, found.rows).any(dim=1)[found.right.any(dim=1)]
    return alone, together, match, float(reach.double().mean())


@dataclass(frozen=True)
class LookedAgain:
    """The first k of g items for each of q queries, and whether the fusion encoder matches them.

    cosines: of all items. rows, best: the first ones, and their cosines. right: of all items.
    """

    cosines: Float[Tensor, "q g"]
    rows: Int[Tensor, "q k"]
    best: Float[Tensor, "q k"]
    logits: Float[Tensor, "q k"]
    right: Bool[Tensor, "q g"]
    temperature: float

    @property
    def together(self) -> Float[Tensor, "q k"]:
        """Scores as `mcr query --rerank` has them."""
        return self.best / self.temperature + self.logits

    def figures(self, values: Float[Tensor, "q k"]) -> Retrieval:
        """With the first items in the order of these values, before all others."""
        above = values - values.amin() + self.cosines.amax() + 1
        return retrieval([(self.cosines.scatter(1, self.rows, above), self.right)])


def look_again(made: Bridge, query: Memory, gallery: Memory, depth: int = DEPTH) -> LookedAgain:
    """Search `gallery` with every item of `query`, and match the first `depth` items found."""
    matcher = matcher_of(made)
    _, other = sides_of(made, query.modality, gallery)
    cosines = in_shared_space(made, query) @ in_shared_space(made, gallery).T
    best, rows = cosines.topk(depth, dim=1)
    queries = tokens_of(query, np.arange(len(query)))
    logits = matches(matcher, queries, gallery, rows.numpy(), other=other)
    classes = relevance_of(query, gallery)
    right = classes.query[:, None] == classes.gallery[None, :]
    return LookedAgain(cosines, rows, best, logits, right, matcher.spec.temperature)


if __name__ == "__main__":
    main()
