"""Sizes of a ULIP checkpoint's towers, read off the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from features.encoders.ulip.settings import HEAD_WIDTH
from features.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


class Shapes:
    """Shapes by name. path: the checkpoint, for messages."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        self._shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self._path = path

    @property
    def dimension(self) -> int:
        """The dimension of the space."""
        return self.of("pc_projection", 1)

    def of(self, name: str, axis: int) -> int:
        """The size of an axis of the tensor `name`. Raises UserError if there is none."""
        shape = self._shapes.get(name)
        if shape is None:
            raise UserError(
                f"{self._path} has no tensor {name}: give a ULIP checkpoint that is complete"
            )
        if not -len(shape) <= axis < len(shape):
            raise UserError(
                f"{self._path} holds {name} with the shape {shape}, which ULIP's has not: give a "
                "published ULIP checkpoint"
            )
        return shape[axis]

    def width(self, name: str, axis: int) -> int:
        """The width of a tower, as `of` gives it. Raises UserError if heads do not fill it."""
        width = self.of(name, axis)
        if not width or width % HEAD_WIDTH:
            raise UserError(
                f"{self._path} holds {name} of width {width}, ULIP's are multiples of "
                f"{HEAD_WIDTH}: give a published ULIP checkpoint"
            )
        return width

    def count(self, prefix: str) -> int:
        """How many numbered parts there are, `PREFIX0.`, `PREFIX1.` and so on."""
        names = [name for name in self._shapes if name.startswith(prefix)]
        return len({name.removeprefix(prefix).partition(".")[0] for name in names})
