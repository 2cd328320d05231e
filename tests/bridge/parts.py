"""Memories with parts of a small world, and projectors in float64, for the tests of TCL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import write_memory
from tests.bridge.conftest import WIDTHS, unit, write_items

PARTS = {"text": 3, "audio": 4, "image": 5}


def with_parts(
    path: Path, space: str, modality: str, items: Sequence[int], *, sentences: bool = False
) -> Memory:
    """The items of `write_items`, each with noisy copies of itself as parts, some left out."""
    plain = write_items(path.with_suffix(".plain.h5"), space, modality, items)
    count = PARTS[modality]
    rng = np.random.default_rng([9, len(items), count])
    wholes = np.asarray(plain.embeddings, dtype=np.float32)
    local = unit_parts(wholes[:, None] + 0.3 * rng.normal(size=(len(items), count, WIDTHS[space])))
    mask = rng.random((len(items), count)) > 0.3
    mask[:, 0] = True
    texts = [f"item {i} of class {i % 8}" for i in items] if sentences else None
    header = MemoryHeader(
        space, modality, WIDTHS[space], "float32",  # type: ignore[arg-type]
        encoder=plain.header.encoder, local_length=count,
    )  # fmt: skip
    columns = Columns(list(plain.ids), texts, list(plain.labels or ()))
    return write_memory(
        path, header, columns, [wholes], local=[(local * mask[..., None], mask)], overwrite=True
    )


def unit_parts(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return unit(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape)


class Map(nn.Module):
    """A linear map to unit rows, in float64."""

    def __init__(self, inputs: int, outputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(weight)

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.normalize(rows @ self.weight.T, dim=-1)

    def centred(self, rows: Tensor, modality: str | None = None) -> Tensor:  # noqa: ARG002
        return rows
