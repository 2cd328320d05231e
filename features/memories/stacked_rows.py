"""Arrays of several files as one, without a copy of all.

Axes: n rows of all arrays together; the other axes are the same in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from features.memories.container import CheckedArray

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StackedRows(CheckedArray):
    """Arrays that follow one another along their first axis, read where they are asked for.

    It stands in for an array: it has a shape and a type, and slices and rows of it are arrays, of
    which what is read is checked.
    """

    def __init__(self, arrays: Sequence[CheckedArray]) -> None:
        self.arrays = tuple(arrays)
        self.dtype = self.arrays[0].dtype
        self._starts = np.cumsum([0, *map(len, self.arrays)])
        self.shape = (int(self._starts[-1]), *self.arrays[0].shape[1:])
        self.ndim = len(self.shape)
        self.nbytes = sum(array.nbytes for array in self.arrays)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def mapped(self) -> bool:
        """Whether all lie in their files, not in RAM."""
        return all(array.mapped for array in self.arrays)

    def all(self) -> NDArray[Any]:
        """This, as it is an array of all where one is asked for."""
        return cast("NDArray[Any]", self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("rows of several files are an array when they are copied")
        return np.asarray(np.concatenate([array.all() for array in self.arrays]), dtype)

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> NDArray[Any]:
        if not isinstance(rows, slice):
            return self.take(np.asarray(rows))
        start, stop, step = rows.indices(len(self))
        if step != 1:
            return self.take(np.arange(start, stop, step))
        pieces = [
            array[max(start - first, 0) : max(stop - first, 0)]
            for array, first in zip(self.arrays, self._starts[:-1].tolist(), strict=True)
            if start < first + len(array) and first < stop
        ]
        if not pieces:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def take(
        self, rows: NDArray[np.integer[Any]], axis: int | None = 0, **_: object
    ) -> NDArray[Any]:
        """The rows at `rows`, as `numpy.take` asks for them. Raises IndexError if not there."""
        if axis != 0:
            raise ValueError(f"rows are along axis 0, not {axis}")
        rows = np.where(rows < 0, rows + len(self), rows)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        made = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        held = np.searchsorted(self._starts, rows, side="right") - 1
        for place in np.unique(held).tolist():
            chosen = held == place
            made[chosen] = self.arrays[place].take(rows[chosen] - self._starts[place])
        return made
