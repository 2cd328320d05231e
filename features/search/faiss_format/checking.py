"""What a FAISS file says, checked before FAISS reads it.

FAISS follows the numbers in its file: how long arrays are, where the edges of a graph lead, which
items are in a cell. Who chose them with care can lead it out of its memory, and a checksum tells
damage, not intent. So every number that FAISS follows is compared here with the rest of the file:
array lengths with dimensions, items and codes, edges with the levels that they are on, cells with
all items, each once. Kinds of index whose numbers are not known here are refused.

The format is what FAISS's `index_write.cpp` writes, little-endian: four letters name the kind, then
come its fields, arrays behind their lengths, and the indices inside of it. Vectors and codes may
hold anything, and are not read. A graph's edges are (256 bytes an item), and the ids in cells.

Axes: n items, d dimensions, c cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features.errors import UserError
from features.search.faiss_format.content import Content
from features.search.faiss_format.graphs import MOST_FOUND, check_graph
from features.search.faiss_format.lists import check_lists
from features.search.faiss_format.quantizers import product_quantizer, scalar_quantizer
from features.search.faiss_format.transforms import check_transform

CHECKED = (
    "Flat, SQ, PQ, IVF of them and HNSW of the first two, behind PCA, OPQ, RR or L2norm, and with "
    "RFlat"
)
_INNER_PRODUCT = 0
_PLAIN = ("IxFI", "IxSQ", "IxPq")
_GRAPHS = {"IHNf": "IxFI", "IHNs": "IxSQ"}  # and what their vectors are in
_CELLS = ("IwFl", "IwSq", "IwPQ")
_INNER = (*_PLAIN, *_GRAPHS, *_CELLS)
# What FAISS's classes are called that are written as these kinds.
_CLASSES = frozenset({
    "IndexFlat", "IndexFlatIP", "IndexScalarQuantizer", "IndexPQ", "IndexHNSWFlat", "IndexHNSWSQ",
    "IndexIVFFlat", "IndexIVFScalarQuantizer", "IndexIVFPQ", "IndexPreTransform",
    "IndexRefine", "IndexRefineFlat", "LinearTransform", "OPQMatrix", "PCAMatrix",
    "RandomRotationMatrix", "NormalizationTransform", "CenteringTransform",
})  # fmt: skip
_MOST_TRANSFORMS = 8


class _Size(NamedTuple):
    """Dimensions and items of an index."""

    d: int
    n: int


def check_faiss(path: Path) -> None:
    """Raise UserError unless FAISS can read the file at `path` and search it safely."""
    content = Content(np.memmap(path, np.uint8, mode="r")) if path.stat().st_size else None
    try:
        if content is None:
            raise ValueError("it is empty")
        _index(content, ("IxPT", "IxRF", *_INNER))
        if content.left:
            raise ValueError(f"{content.left} bytes follow its end")
    except ValueError as error:
        raise UserError(
            f"{path} is not opened by FAISS, it is not as FAISS writes an index ({error}): build "
            "it with `mcr index --overwrite`"
        ) from error


def unchecked_parts(index: Any) -> list[str]:
    """The classes in a FAISS index whose files are refused here."""
    return sorted({name for name in _classes(index) if name not in _CLASSES})


def _classes(outer: Any) -> Iterator[str]:
    import faiss

    index: Any = faiss.downcast_index(outer)
    yield type(index).__name__
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain  # a vector of C++
        for place in range(chain.size()):
            yield type(faiss.downcast_VectorTransform(chain.at(place))).__name__
    for name in ("index", "quantizer", "storage", "base_index", "refine_index"):
        inner = getattr(index, name, None)
        if inner is not None:
            yield from _classes(inner)


def _index(content: Content, allowed: Collection[str]) -> _Size:
    """An index and all inside of it. allowed: kinds, so that none is within another for ever."""
    kind = content.letters()
    if kind not in allowed:
        raise ValueError(f"the kind '{kind}' is not one that is checked here: {CHECKED}")
    size = _header(content)
    if kind in _GRAPHS:
        _graph(content, size, _GRAPHS[kind])
    else:
        _READERS[kind](content, size)
    return size


def _header(content: Content) -> _Size:
    size = _Size(content.number("<i4"), content.number("<i8"))
    content.take("<i8", 2)  # which nobody reads
    trained, metric = content.flag(), content.number("<i4")
    if size.d < 1 or size.n < 1:
        raise ValueError(f"it has {size.n} items of {size.d} dimensions")
    if not trained or metric != _INNER_PRODUCT:
        raise ValueError("it is not trained, or does not compare by inner product")
    return size


def _flat(content: Content, size: _Size) -> None:
    content.array("<f4", size.n * size.d, "numbers of its vectors")


def _scalar(content: Content, size: _Size) -> None:
    content.array("<u1", size.n * scalar_quantizer(content, size.d), "bytes of codes")


def _product(content: Content, size: _Size) -> None:
    code_size = product_quantizer(content, size.d)
    content.array("<u1", size.n * code_size, "bytes of codes")
    search_type, _, _ = content.number("<i4"), content.flag(), content.number("<i4")
    if search_type:
        raise ValueError(f"its product quantizer is searched in the way {search_type}, not 0")


def _graph(content: Content, size: _Size, inside: str) -> None:
    content.array("<f8", None, "probabilities of levels")
    arrays = [content.array(dtype, None, "of its graph") for dtype in ("<i4", "<i4", "<u8", "<i4")]
    entry, top, built_with, depth, _ = (content.number("<i4") for _ in range(5))
    if not (1 <= built_with <= MOST_FOUND and 1 <= depth <= MOST_FOUND):
        raise ValueError(f"its graph is searched {depth} deep")
    check_graph(*arrays, entry=entry, top=top, n=size.n)
    _vectors_of_graph(content, size, inside)


def _vectors_of_graph(content: Content, size: _Size, inside: str) -> None:
    kind = content.letters()
    if kind != inside or _header(content) != size:
        raise ValueError("its graph and the vectors of it are of different kinds or sizes")
    _READERS[kind](content, size)


def _cells(content: Content, size: _Size) -> int:
    """Where cells are, which every kind of them begins with: how many there are."""
    count, probed = content.number("<u8"), content.number("<u8")
    centres = _index(content, ("IxFI", "IxSQ", "IHNf", "IHNs"))
    if centres != (size.d, count) or not 1 <= probed <= count:
        raise ValueError(f"of its {count} cells {centres.n} have a centre, {probed} are searched")
    if content.number("<i1"):
        raise ValueError("it says where items are, which is made when it is opened")
    content.array("<i8", 0, "places of items")
    return int(count)


def _flat_cells(content: Content, size: _Size) -> None:
    check_lists(content, _cells(content, size), size.n, 4 * size.d)


def _scalar_cells(content: Content, size: _Size) -> None:
    count, code_size = _cells(content, size), scalar_quantizer(content, size.d)
    told = content.number("<u8")
    content.flag()  # whether codes are of what is left beside the centre
    _same_codes(told, code_size)
    check_lists(content, count, size.n, code_size)


def _product_cells(content: Content, size: _Size) -> None:
    count = _cells(content, size)
    content.flag()
    told = content.number("<u8")
    code_size = product_quantizer(content, size.d)
    _same_codes(told, code_size)
    check_lists(content, count, size.n, code_size)


def _same_codes(told: int, code_size: int) -> None:
    if told != code_size:
        raise ValueError(f"its codes have {told} bytes, and {code_size} by its quantizer")


def _transformed(content: Content, size: _Size) -> None:
    count, d = content.number("<i4"), size.d
    if not 1 <= count <= _MOST_TRANSFORMS:
        raise ValueError(f"it transforms vectors {count} times")
    for _ in range(count):
        d = check_transform(content, d)
    if _index(content, _INNER) != (d, size.n):
        raise ValueError(f"the index behind its transforms is not one of {size.n} items of {d}")


def _refined(content: Content, size: _Size) -> None:
    rough = _index(content, ("IxPT", *_INNER))
    fine = _index(content, _PLAIN)
    factor = content.number("<f4")
    if rough != size or fine != size or not (math.isfinite(factor) and 1 <= factor <= MOST_FOUND):
        raise ValueError(f"what refines its {size.n} items is of {fine.n}, or asks {factor} times")


_READERS: dict[str, Callable[[Content, _Size], None]] = {
    "IxFI": _flat, "IxSQ": _scalar, "IxPq": _product, "IwFl": _flat_cells, "IwSq": _scalar_cells,
    "IwPQ": _product_cells, "IxPT": _transformed, "IxRF": _refined,
}  # fmt: skip
