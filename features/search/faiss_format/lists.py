"""The inverted lists of a FAISS file, one of each cell: are all items in one, each once?

Axes: n items, c cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from features.search.faiss_format.content import Content

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_lists(content: Content, count: int, n: int, code_size: int) -> None:
    """The codes and ids of each cell: all items are in one."""
    kind, told, size = content.letters(), content.number("<u8"), content.number("<u8")
    if (kind, told, size) != ("ilar", count, code_size):
        raise ValueError(f"{told} lists '{kind}' of {size} bytes do not fit {count} cells")
    sizes = _list_sizes(content, count)
    if n * (code_size + 8) > content.left or sum(sizes.tolist()) != n:
        raise ValueError(f"its lists do not hold {n} items together")
    seen = np.zeros(n, dtype=bool)
    for length in sizes[sizes > 0].tolist():
        content.take("<u1", length * code_size)
        ids = content.take("<i8", length)
        if ids.min() < 0 or ids.max() >= n:
            raise ValueError(f"a cell has an item {ids.min()} or {ids.max()} of {n}")
        seen[ids] = True
    if not seen.all():
        raise ValueError("an item is in two cells and another in none")


def _list_sizes(content: Content, count: int) -> NDArray[np.uint64]:
    form = content.letters()
    if form == "full":
        return content.array("<u8", count, "lengths of lists")
    pairs = content.array("<u8", None, "lengths of lists")
    places, lengths = pairs[::2], pairs[1::2]
    ordered = bool((places[1:] > places[:-1]).all())
    if form != "sprs" or not len(lengths) == len(places) > 0 or not ordered or places[-1] >= count:
        raise ValueError(f"the lengths of its lists, '{form}', are not of {count} cells")
    sizes = np.zeros(count, dtype=np.uint64)
    sizes[places] = lengths
    return sizes
