"""Hub routing of a memory, against the plain formula in blocks and against its products alone.

python -m benchmarks routing --items 20000 --hub 200000

The plain formula makes a block of the table of all probabilities, takes the most probable of each
row, and smooths by adding the tables of the neighbours. Embeddings are clustered.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.clusters import clustered_rows
from benchmarks.machine import machine, medians
from benchmarks.report import parser, report
from bridge.methods.routing import KEPT, Posteriors, posteriors, smoothed
from features.products import product

TEMPERATURE, NEAR, SHARE = 0.1, 0.02, 0.5
TABLE = 1 << 24  # probabilities held at once
OURS = "ours"


def main() -> None:
    """Print the times of the posteriors, and of smoothing them."""
    options = parser(__doc__, repeats=1)
    options.add_argument("--items", type=int, default=20_000)
    options.add_argument("--hub", type=int, default=200_000)
    options.add_argument("--dimension", type=int, default=512)
    arguments = options.parse_args()
    items, hub = (
        F.normalize(torch.from_numpy(clustered_rows(rows, arguments.dimension, seed=seed)).float())
        for seed, rows in enumerate((arguments.items, arguments.hub))
    )
    own = posteriors(items, hub, temperature=TEMPERATURE)
    print(machine())
    sizes = {name: getattr(arguments, name) for name in ("items", "hub", "dimension")}
    for title, candidates in {
        "Posteriors": {
            OURS: lambda: posteriors(items, hub, temperature=TEMPERATURE),
            "plain": lambda: _plain(items, hub, TEMPERATURE),
            "the products alone": lambda: _products(items, hub),
        },
        "Smoothing": {
            OURS: lambda: smoothed(own, items, hub_items=len(hub), share=SHARE, temperature=NEAR),
            "plain": lambda: _plain_smoothed(own, items, len(hub)),
            "the products alone": lambda: _products(items, items),
        },
    }.items():
        seconds = medians(candidates, repeats=arguments.repeats)
        report(title, seconds, ours=OURS, sizes=sizes, json_file=arguments.json)


def _plain(items: Tensor, hub: Tensor, temperature: float) -> Posteriors:
    parts = [
        torch.softmax(part @ hub.T / temperature, dim=1).topk(KEPT, dim=1)
        for part in torch.split(items, max(1, TABLE // len(hub)))
    ]
    return Posteriors(
        torch.cat([one.indices for one in parts]), torch.cat([p.values for p in parts])
    )


def _plain_smoothed(own: Posteriors, items: Tensor, hub_items: int) -> None:
    near = _plain(items, items, NEAR)
    block = max(1, TABLE // hub_items)
    for start in range(0, len(items), block):
        part = slice(start, start + block)
        mine = own[part]
        table = items.new_zeros(len(mine), hub_items)
        table.scatter_add_(1, mine.hub, (1 - SHARE) * mine.probability)
        for place in range(near.hub.shape[1]):
            other = own[near.hub[part, place]]
            weight = SHARE * near.probability[part, place, None]
            table.scatter_add_(1, other.hub, weight * other.probability)
        table.topk(KEPT, dim=1)


def _products(items: Tensor, hub: Tensor) -> None:
    for part in torch.split(items, 2048):
        for block in torch.split(hub, 2048):
            product(block, part)


if __name__ == "__main__":
    main()
