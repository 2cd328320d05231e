"""Memories cut into the shards that an extraction would have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.memories.memory import Columns, Memory
from features.memories.writing import write_memory


def write_shards(
    folder: Path, memory: Memory, cuts: Sequence[int], *, name: str = "m", plan: str = "p"
) -> list[Memory]:
    """The rows of a memory as shards NAME.I-of-N.h5 that end at `cuts`; some may be empty."""
    of, made = len(cuts) + 1, []
    for number, (start, stop) in enumerate(
        zip([0, *cuts], [*cuts, len(memory)], strict=True), start=1
    ):
        rows = slice(start, stop)
        header = replace(memory.header, extra={"plan": plan, "shard": [number, of]})
        path = folder / f"{name}.{number:0{len(str(of))}d}-of-{of}.h5"
        columns = memory.columns
        part = Columns(
            columns.ids[rows],
            None if columns.items is None else columns.items[rows],
            None if columns.labels is None else columns.labels[rows],
            {name: column[rows] for name, column in columns.metadata.items()},
        )
        batches = [np.array(memory.embeddings[rows])] if start < stop else []
        local = []
        if batches and memory.local is not None and memory.local_mask is not None:
            local = [(np.array(memory.local[rows]), np.array(memory.local_mask[rows]))]
        made.append(
            write_memory(
                path,
                header,
                part,
                batches,
                local=local,
                checked=True,
                may_be_empty=True,
                overwrite=True,
            )
        )
    return made
