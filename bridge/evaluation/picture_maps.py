"""Maps of similarity over pictures, from local embeddings or from crops.

Axes: s pixels of either side, e dimensions of the space in which they are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bridge.artefact import Bridge
from bridge.evaluation.rows import comparable_rows
from bridge.evaluation.views import picture_size, view_of
from bridge.metrics.maps import SIZE, Upsampling, box_slices, similarity_map, upsampled
from bridge.projection import check_memory, is_projected
from features.datasets.annotations import Boxes, require_fields
from features.datasets.matching import RowsByName
from features.errors import UserError
from features.memories.memory import Memory
from features.tables import read_table


class PictureMaps(Protocol):
    """Pictures by name, and what of them is similar to a query."""

    memory: Memory
    size: int

    def find(self, name: str) -> int | None:
        """The number of the picture called `name`, None if it is not there."""

    def map(self, number: int, query: Float[Tensor, " e"]) -> Float[Tensor, "s s"]:
        """Cosine of the query with every place; where nothing is embedded, the least of them."""


class LocalMaps:
    """Maps from the local embeddings of a memory of pictures."""

    def __init__(
        self,
        memory: Memory,
        bridge: Bridge | None,
        *,
        grid: tuple[int, int] | None = None,
        fit: str | None = None,
        upsampling: Upsampling = "bicubic",
        size: int = SIZE,
        trust_encoder: bool = False,
    ) -> None:
        """Raises UserError for a memory of other things than pictures, without local embeddings,
        or of a space of no use here.
        """
        _check_pictures(memory, "--pictures")
        if not memory.header.local_length:
            raise UserError(
                f"{memory.path} has no local embeddings, which say where things are: make them "
                "with `mcr extract --local`, or cut the pictures with `mcr crops` and give --crops "
                "and --regions"
            )
        if bridge is not None:
            check_memory(bridge, memory, trust_encoder=trust_encoder)
        self.memory, self.bridge, self.size = memory, bridge, size
        self.view = view_of(memory, grid, fit)
        self.upsampling = upsampling
        self._names = RowsByName(memory.ids)

    def find(self, name: str) -> int | None:
        """The row of the picture called `name`."""
        return self._names.find(name)

    def map(self, number: int, query: Float[Tensor, " e"]) -> Float[Tensor, "s s"]:
        """Cosine of the query with every place of the picture."""
        local, mask = (one[0] for one in self.memory.local_tensors(np.array([number])))
        if self.bridge is not None and not is_projected(self.memory):
            local = self.bridge.project(local, self.memory.space, self.memory.modality).cpu()
        coarse = similarity_map(query, local, self.view.grid)
        coarse[~mask.view(self.view.grid)] = coarse[mask.view(self.view.grid)].amin()
        if self.view.fit == "squash":
            return upsampled(coarse, (self.size, self.size), self.upsampling)
        return self._placed(coarse, self.view.window(*picture_size(self.memory, number)))

    def _placed(
        self, coarse: Float[Tensor, "h w"], window: tuple[float, float, float, float]
    ) -> Float[Tensor, "s s"]:
        """The map of a window of the picture, in the picture."""
        left, top, right, bottom = (round(edge * self.size) for edge in window)
        fine = upsampled(coarse, (bottom - top, right - left), self.upsampling)
        whole = torch.full((self.size, self.size), float(fine.amin()), dtype=fine.dtype)
        rows = slice(max(top, 0), min(bottom, self.size))
        columns = slice(max(left, 0), min(right, self.size))
        whole[rows, columns] = fine[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        return whole


class CropMaps:
    """Maps from embeddings of crops: a pixel is as similar as the best crop that holds it."""

    def __init__(
        self,
        crops: Memory,
        regions: Path,
        bridge: Bridge | None,
        *,
        size: int = SIZE,
        trust_encoder: bool = False,
    ) -> None:
        """regions: a table with the columns path (of a crop), image, left, top, right, bottom.

        Raises UserError for regions without a crop, and memories of no use here.
        """
        _check_pictures(crops, "--crops")
        self.memory, self.size = crops, size
        self._rows = comparable_rows(bridge, [crops], trust_encoder=trust_encoder)[0]
        self._regions, names = read_regions(crops, regions)
        self._names = RowsByName(names)

    def find(self, name: str) -> int | None:
        """The number of the picture called `name` among those that were cut."""
        return self._names.find(name)

    def map(self, number: int, query: Float[Tensor, " e"]) -> Float[Tensor, "s s"]:
        """Cosine of the query with the best crop of every pixel."""
        whole = torch.full((self.size, self.size), -torch.inf, dtype=torch.float64)
        for row, box in self._regions[number]:
            whole[box_slices(box, self.size)].clamp_(
                min=float(self._rows[row].double() @ query.double())
            )
        seen = whole.isfinite()
        whole[~seen] = whole[seen].amin() if bool(seen.any()) else 0.0
        return whole


def _check_pictures(memory: Memory, option: str) -> None:
    if memory.modality != "image":
        raise UserError(
            f"{memory.path} holds {memory.modality}, and maps are made of pictures: give {option} "
            "a memory of images, and what is localised with --sounds"
        )


def read_regions(
    crops: Memory, path: Path
) -> tuple[list[list[tuple[int, tuple[float, float, float, float]]]], Sequence[str]]:
    """Rows of crops and their boxes, for each picture, and the pictures' names.

    Raises UserError if the table has other columns, or names a crop that the memory lacks.
    """
    table = read_table(path)
    columns = ("path", "image", "left", "top", "right", "bottom")
    require_fields(dict.fromkeys(table.columns), columns, f"the header of {path}")
    by_name, boxes = RowsByName(crops.ids), Boxes(path)
    found: dict[str, list[tuple[int, tuple[float, float, float, float]]]] = {}
    edges = [table.column(name) for name in columns[2:]]
    for place, (crop, image) in enumerate(
        zip(table.column("path"), table.column("image"), strict=True)
    ):
        row = by_name.find(crop)
        if row is None:
            raise UserError(
                f"{path} names the crop {crop}, which is not an item of {crops.path}: extract the "
                "crops with this table"
            )
        try:
            box = boxes.checked([[float(column[place]) for column in edges]], crop)
        except ValueError as error:
            raise UserError(f"an edge of {crop} in {path} is not a number ({error})") from error
        found.setdefault(image, []).extend((row, one) for one in box)
    return list(found.values()), list(found)
