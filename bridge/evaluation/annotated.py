"""Annotations and memories together: which row is which sample's picture, sound or shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.datasets.annotations import Annotations, Sample
from features.datasets.matching import RowsByName
from features.errors import UserError
from features.memories.memory import Memory


@dataclass(frozen=True)
class Rows:
    """Rows of samples in memories.

    samples: those that every memory has. rows: of each memory, one for each sample.
    absent: how many samples some memory lacks.
    """

    samples: list[Sample]
    rows: tuple[list[int], ...]
    absent: int


def name_in(sample: Sample, memory: Memory) -> str:
    """What a sample is called among the items of a memory."""
    return sample.audio if memory.modality == "audio" else sample.image


def find_samples(annotations: Annotations, memories: Sequence[Memory]) -> Rows:
    """The samples that all memories have, in the order of the annotations.

    Raises UserError if there are none.
    """
    names = [[name_in(sample, memory) for sample in annotations.samples] for memory in memories]
    found = [find_rows(m, column, annotations) for m, column in zip(memories, names, strict=True)]
    kept = [i for i in range(len(names[0])) if all(column[i] is not None for column in found)]
    if not kept:
        raise UserError(
            f"no sample of {annotations.path} is in {' and '.join(str(m.path) for m in memories)}: "
            "extract the pictures and the sounds of the same samples"
        )
    rows = tuple([row for i in kept if (row := column[i]) is not None] for column in found)
    return Rows([annotations.samples[i] for i in kept], rows, len(names[0]) - len(kept))


def find_rows(memory: Memory, names: Sequence[str], annotations: Annotations) -> list[int | None]:
    """The row of each name, if the memory has it. Raises UserError if it has none of them."""
    by_name = RowsByName(memory.ids)
    rows = [by_name.find(name) for name in names]
    if all(row is None for row in rows):
        raise UserError(
            f"no name of {annotations.path} ({names[0]}, ...) is that of an item of {memory.path} "
            f"({memory.ids[0]}, ...): the labels are not of these items; give their own "
            "annotations, or extract the files under their authors' names"
        )
    return rows
