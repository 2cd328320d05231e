"""Pseudo pairs against the formula as it is written, and against one call of attention.

python -m benchmarks pseudo_pairs --queries 4096 --items 100000

Embeddings are random unit vectors, which are the hardest: their softmax has the longest tail. The
limits are the product of queries and memory alone, in the fastest precision, and the two products
that exact retrieval cannot do without, in float32. Prints the largest
cosine error over all queries, against the formula in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.machine import machine, medians
from benchmarks.report import parser, report
from bridge.pseudo_pairs.exact import retrieve
from bridge.pseudo_pairs.sparse import retrieve_sparse
from features.products import fast_dtype, product

TEMPERATURE = 0.01
OURS = "sparse"


def main() -> None:
    """Print times and errors."""
    options = parser(__doc__, repeats=3)
    options.add_argument("--queries", type=int, default=4096)
    options.add_argument("--items", type=int, default=100_000)
    options.add_argument("--dimension", type=int, default=512)
    arguments = options.parse_args()
    generator = torch.Generator().manual_seed(0)
    queries, memory = (
        F.normalize(torch.randn(rows, arguments.dimension, generator=generator), dim=1)
        for rows in (arguments.queries, arguments.items)
    )
    fast = fast_dtype(queries.device)
    light = queries.to(fast), memory.to(fast)
    candidates: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: retrieve_sparse(queries, memory, temperature=TEMPERATURE).values[0],
        "exact": lambda: retrieve(queries, memory, temperature=TEMPERATURE)[0],
        "softmax(q @ m.T / t) @ m": lambda: _formula(queries, memory),
        f"attention of torch, {str(fast).removeprefix('torch.')}": lambda: _attention(*light),
    }
    right = torch.cat(
        [_formula(part.double(), memory.double()) for part in torch.split(queries, 256)]
    )
    errors = {
        name: f"{float((1 - (right * F.normalize(run().double(), dim=1)).sum(dim=1)).max()):.1e}"
        for name, run in candidates.items()
    }
    fast_product = f"q @ m.T, {str(fast).removeprefix('torch.')}"
    seconds = medians(
        {
            **candidates,
            fast_product: lambda: light[0] @ light[1].T,
            "two products, float32": lambda: _products(queries, memory),
        },
        repeats=arguments.repeats,
    )
    print(machine())
    sizes = {name: getattr(arguments, name) for name in ("queries", "items", "dimension")}
    report(
        "Pseudo pairs", seconds, ours=OURS, sizes=sizes,
        notes={"cosine error": errors}, json_file=arguments.json,
    )  # fmt: skip


def _formula(queries: Tensor, memory: Tensor) -> Tensor:
    return F.normalize(torch.softmax(queries @ memory.T / TEMPERATURE, dim=1) @ memory, dim=1)


def _products(queries: Tensor, memory: Tensor) -> None:
    """In blocks, by the faster of the device's routines."""
    for keys in torch.split(memory, 2048):
        columns = keys.T.contiguous()
        for some in torch.split(queries, 2048):
            product(product(some, keys), columns)


def _attention(queries: Tensor, memory: Tensor) -> Tensor:
    found = F.scaled_dot_product_attention(
        queries[None, None], memory[None, None], memory[None, None], scale=1 / TEMPERATURE
    )
    return F.normalize(found[0, 0].float(), dim=1)


if __name__ == "__main__":
    main()
