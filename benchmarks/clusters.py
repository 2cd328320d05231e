"""Random unit vectors in clusters, as embeddings of real things are, for the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BLOCK = 65_536
SPREAD = 0.8  # length of what is added to a centre: cosines of about 0.6 within a cluster


def clustered(
    count: int, dimension: int, *, clusters: int = 1000, seed: int = 0
) -> Iterator[NDArray[Any]]:
    """Batches (b, d) of `count` float16 rows; another seed draws others from the same clusters."""
    fixed, generator = torch.Generator().manual_seed(-1), torch.Generator().manual_seed(seed)
    centres = torch.nn.functional.normalize(
        torch.randn(clusters, dimension, generator=fixed), dim=1
    )
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        own = torch.randint(clusters, (size,), generator=generator)
        rows = torch.randn(size, dimension, generator=generator).mul_(SPREAD / dimension**0.5)
        rows += centres[own]
        yield torch.nn.functional.normalize(rows, dim=1).half().numpy()


def clustered_rows(
    count: int, dimension: int, *, clusters: int = 1000, seed: int = 0
) -> NDArray[Any]:
    """All of them, (count, d)."""
    return np.concatenate(list(clustered(count, dimension, clusters=clusters, seed=seed)))
