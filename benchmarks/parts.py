"""The demo's memories with the parts of their items, for the benchmarks of TCL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bridge.demo import TABLES, TASKS
from features.encoders import Encoder, load_encoder
from features.extraction.extract import extract
from features.extraction.sources import read_source
from features.memories.memory import Memory
from features.space import Modality

FOLDER = "memories-with-parts"  # in the demo's


@dataclass(frozen=True)
class PartedTask:
    """A bridge of the demo: memories to train on, and of unseen numbers, all with parts."""

    name: str
    hub: tuple[Memory, Memory]
    leaf: tuple[Memory, Memory]
    query: Memory
    gallery: Memory


def parted_tasks(keypad: Path) -> list[PartedTask]:
    """Both bridges of the demo in the folder `keypad`; memories that are there are kept."""
    encoders: dict[str, Encoder] = {}

    def memory(space: str, modality: Modality, split: str, **where: str) -> Memory:
        if space not in encoders:
            encoders[space] = load_encoder(space, device="cpu")
        source = read_source(
            str(keypad / "data" / f"{TABLES[modality]}.csv"), modality,
            id_column="key", label_column="number", where={"split": split, **where},
        )  # fmt: skip
        name = "-".join([modality, space, split, *where.values()])
        out = keypad / FOLDER / f"{name}.h5"
        out.parent.mkdir(exist_ok=True)
        return extract(source, encoders[space], modality, out, local=True, resume=True).memory

    return [
        PartedTask(
            f"{task.query[1]} -> {task.gallery[1]}",
            (memory(task.query[0], task.hub, "train"), memory(task.gallery[0], task.hub, "train")),
            (memory(*task.query, "train"), memory(*task.gallery, "train")),
            memory(*task.query, "test", digits="3"),
            memory(*task.gallery, "test"),
        )
        for task in TASKS
    ]
