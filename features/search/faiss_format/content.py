"""The bytes of a FAISS file, taken from first to last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Content:
    """The bytes of a file, taken from first to last. Raises ValueError where they end early."""

    def __init__(self, content: NDArray[np.uint8]) -> None:
        self._content, self._place = content, 0

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return len(self._content) - self._place

    def take(self, dtype: str, count: int) -> NDArray[Any]:
        """So many numbers, which need not lie at a multiple of their size."""
        size = np.dtype(dtype).itemsize * count
        if size > self.left:
            raise ValueError(f"{size} bytes are announced where {self.left} are left")
        taken = self._content[self._place : self._place + size]
        self._place += size
        return taken.view(dtype)

    def number(self, dtype: str) -> Any:
        return self.take(dtype, 1)[0].item()

    def flag(self) -> bool:
        value = self.number("<u1")
        if value > 1:  # which C++ does not expect of a bool
            raise ValueError(f"a flag is {value}, not 0 or 1")
        return bool(value)

    def letters(self) -> str:
        """The name of a kind."""
        return self.take("<u1", 4).tobytes().decode("ascii", "replace")

    def array(self, dtype: str, length: int | None, what: str) -> NDArray[Any]:
        """An array behind its length. length: which it must have, if that is known."""
        found = self.number("<u8")
        if length is not None and found != length:
            raise ValueError(f"its {what} are {found}, not {length}")
        return self.take(dtype, found)
