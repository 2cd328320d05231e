"""What FAISS writes is opened; what would lead it out of its memory is refused before it looks."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from features.errors import UserError
from features.search.building import build_index
from features.search.faiss_format.checking import check_faiss, unchecked_parts
from tests.features.helpers import unit_rows
from tests.features.search.test_index import _memory

N, D = 300, 16
ACCEPTED = [
    "Flat", "HNSW8", "HNSW8_SQfp16", "HNSW8_SQ8", "IVF4,Flat", "IVF4,SQ8",
    "IVF4,SQ4", "SQ8", "SQ4", "SQ6", "SQfp16", "SQbf16", "PQ4x4", "PQ2x6", "IVF4,PQ4x4",
    "PCA8,IVF4,PQ2x4", "PCAR8,Flat", "OPQ4_8,IVF4,PQ4x4", "RR8,SQ8", "L2norm,Flat",
    "IVF4_HNSW8,Flat", "IVF4,PQ4x4,RFlat", "IVF4,SQfp16,Refine(SQ8)",
]  # fmt: skip
OTHERS = {
    "PQ4x4fs": "IndexPQFastScan", "IVF4,PQ4x4fs": "IndexIVFPQFastScan", "NSG8,Flat": "IndexNSGFlat",
    "IVF4,RaBitQ": "IndexIVFRaBitQ", "PCA8,PQ2x4fs": "IndexPQFastScan", "IDMap,Flat": "IndexIDMap",
    "HNSW8_PQ4x4": "IndexHNSWPQ",  # which FAISS makes for distances, whatever it is told
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine, threads wait for one another after every step of a small training."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def _index(factory: str, n: int = N) -> Any:
    index = faiss.index_factory(D, factory, faiss.METRIC_INNER_PRODUCT)
    rows = unit_rows(n, D)
    index.train(rows)
    index.add(rows)
    return index


def _written(folder: Path, index: Any) -> Path:
    path = folder / "i.faiss"
    faiss.write_index(index, str(path))
    return path


@pytest.mark.parametrize("factory", ACCEPTED)
def test_what_faiss_writes_is_as_it_should_be(tmp_path: Path, factory: str) -> None:
    index = _index(factory)
    path = _written(tmp_path, index)
    check_faiss(path)
    assert unchecked_parts(index) == []
    content = path.read_bytes()
    for cut in (0, 3, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(UserError, match="is not as FAISS writes an index"):
            check_faiss(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(UserError, match="1 bytes follow its end"):
        check_faiss(path)


@pytest.mark.parametrize("factory", OTHERS)
def test_kinds_that_are_not_checked_are_not_built(tmp_path: Path, factory: str) -> None:
    with pytest.raises(UserError, match=f"has in it, FAISS's {OTHERS[factory]}, .*: use Flat, SQ"):
        build_index(_memory(tmp_path / "m.h5", n=N), tmp_path / "i.faiss", kind=factory)


@pytest.mark.parametrize("factory", ["PQ4x4fs", "IVF4,RaBitQ", "IDMap,Flat"])
def test_kinds_that_are_not_checked_are_not_opened(tmp_path: Path, factory: str) -> None:
    index = faiss.index_factory(D, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(unit_rows(N, D))
    if not factory.startswith("IDMap"):
        index.add(unit_rows(N, D))
    else:
        index.add_with_ids(unit_rows(N, D), np.arange(N))
    with pytest.raises(UserError, match="is not one that is checked here"):
        check_faiss(_written(tmp_path, index))


def _vector(of: Callable[[Any], Any], place: int, value: int) -> Callable[[Any], None]:
    """A change of one number of an array inside of an index."""

    def change(index: Any) -> None:
        held = of(index)
        numbers = faiss.vector_to_array(held)
        numbers[place] = value
        faiss.copy_array_to_vector(numbers, held)

    return change


def _number(name: str, value: float) -> Callable[[Any], None]:
    """A change of a field, `hnsw.max_level` say."""

    def change(index: Any) -> None:
        *way, last = name.split(".")
        for one in way:
            index = getattr(index, one)
        setattr(index, last, value)

    return change


def _upper_edge_to_ground(index: Any) -> None:
    """The first edge of the entry's highest level leads to a node that is on the lowest alone."""
    graph = index.hnsw
    levels, offsets = (faiss.vector_to_array(one) for one in (graph.levels, graph.offsets))
    ends = faiss.vector_to_array(graph.cum_nneighbor_per_level)
    place = int(offsets[graph.entry_point]) + int(ends[graph.max_level])
    _vector(lambda one: one.hnsw.neighbors, place, int(np.argmin(levels)))(index)


_GRAPH = ["HNSW8", "HNSW8_SQfp16"]


@pytest.mark.parametrize(
    ("factory", "change", "message"),
    [
        *(
            (factory, change, message)
            for factory in _GRAPH
            for change, message in (
                (_vector(lambda i: i.hnsw.neighbors, 5, N), f"an edge .* leads to .* {N} of {N}"),
                (_vector(lambda i: i.hnsw.neighbors, 5, -2), "an edge of its graph leads to -2"),
                (_vector(lambda i: i.hnsw.levels, 5, 9), "nodes on 1 to 9 levels"),
                (_vector(lambda i: i.hnsw.levels, 5, 0), "nodes on 0 to"),
                (_vector(lambda i: i.hnsw.offsets, 5, 2**40), "are not where its nodes say"),
                (_vector(lambda i: i.hnsw.cum_nneighbor_per_level, 1, 99), "edges"),
                (_vector(lambda i: i.hnsw.cum_nneighbor_per_level, 1, -1), "levels of its graph"),
                (_number("hnsw.entry_point", N), f"nodes for {N} items, entered at {N}"),
                (_number("hnsw.entry_point", -1), "entered at -1"),
                (_number("hnsw.max_level", 60), "levels of 61"),
                (_number("hnsw.efSearch", 2**30), "searched 1073741824 deep"),
                (_upper_edge_to_ground, "leads to a lower one"),
            )
        ),
        ("IVF4,Flat", _number("nprobe", 2**40), "1099511627776 are searched"),
        ("IVF4,Flat", _number("nprobe", 0), "0 are searched"),
        ("IVF4,Flat", _number("ntotal", N + 1), f"do not hold {N + 1} items together"),
        ("IVF4,PQ4x4", _number("pq.nbits", 8), "numbers of its product quantizer are"),
        ("IVF4,PQ4x4", _number("pq.nbits", 60), "4 parts of 60 bits"),
        ("IVF4,PQ4x4", _number("pq.M", 3), "3 parts of 4 bits"),
        ("IVF4,PQ4x4", _number("code_size", 9), "its codes have 9 bytes, and 2"),
        ("PQ4x4", _number("search_type", faiss.IndexPQ.ST_HE), "searched in the way 1, not 0"),
        ("SQ8", _number("sq.qtype", faiss.ScalarQuantizer.QT_fp16), "codes have 16 bytes for 16"),
        ("SQ8", _number("sq.d", 8), "of 8 dimensions is not one of 16"),
        ("SQ8", _number("is_trained", False), "not trained, or does not compare by inner product"),
        ("SQ8", _number("metric_type", faiss.METRIC_L2), "does not compare by inner product"),
        ("Flat", _number("ntotal", 2**40), "numbers of its vectors are 4800, not"),
        ("Flat", _number("ntotal", -1), "it has -1 items of 16 dimensions"),
        ("Flat", _number("d", 2**30), "numbers of its vectors are 4800, not"),
        ("IVF4,PQ4x4,RFlat", _number("k_factor", float("nan")), "or asks nan times"),
        ("IVF4,PQ4x4,RFlat", _number("k_factor", 1e30), "or asks 1.0000"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_fit_are_refused(
    tmp_path: Path, factory: str, change: Callable[[Any], None], message: str
) -> None:
    index = _index(factory)
    change(index)
    with pytest.raises(UserError, match=message):
        check_faiss(_written(tmp_path, index))


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        (0, b"Iw\xff\0", "the kind .* is not one"),
        (32, b"\2", "a flag is 2"),
        (37, struct.pack("<Q", 2**62), "numbers of its vectors are 4611686018427387904"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    tmp_path: Path, place: int, content: bytes, message: str
) -> None:
    path = _written(tmp_path, _index("Flat"))
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + content + whole[place + len(content) :])
    with pytest.raises(UserError, match=message):
        check_faiss(path)


@pytest.mark.parametrize("wanted", [-1, N, 7])
def test_cells_hold_all_items_each_once(tmp_path: Path, wanted: int) -> None:
    """An id beyond the items, or of one that is in another cell."""
    index = _index("IVF4,Flat")
    path = _written(tmp_path, index)
    lists = index.invlists
    cell = next(one for one in range(4) if 7 not in _ids(lists, one))
    ids = _ids(lists, cell)
    content = path.read_bytes()
    assert content.count(ids.tobytes()) == 1
    changed = ids.copy()
    changed[0] = wanted
    path.write_bytes(content.replace(ids.tobytes(), changed.tobytes()))
    with pytest.raises(UserError, match=r"a cell has an item|an item is in two cells"):
        check_faiss(path)


def _ids(lists: Any, cell: int) -> np.ndarray:
    return faiss.rev_swig_ptr(lists.get_ids(cell), lists.list_size(cell)).copy()


def test_lists_with_few_cells_in_use_are_read(tmp_path: Path) -> None:
    """Whose lengths are written as pairs."""
    centres = faiss.IndexFlatIP(D)
    centres.add(unit_rows(40, D, seed=9))
    index = faiss.IndexIVFFlat(centres, D, 40, faiss.METRIC_INNER_PRODUCT)
    index.train(unit_rows(N, D))
    index.add(np.repeat(unit_rows(2, D), 5, axis=0))
    path = _written(tmp_path, index)
    check_faiss(path)
    content = path.read_bytes()
    place = content.index(b"sprs") + 4
    (count,) = struct.unpack_from("<Q", content, place)
    assert count in (2, 4)
    for value in (40, 2**63):
        wrong = content[: place + 8] + struct.pack("<Q", value) + content[place + 16 :]
        path.write_bytes(wrong)
        with pytest.raises(UserError, match="are not of 40 cells"):
            check_faiss(path)


@pytest.mark.parametrize("matrix", ["A", "b"])
def test_a_transform_whose_matrix_is_shorter_is_refused(tmp_path: Path, matrix: str) -> None:
    index = _index("PCA8,Flat")
    change = faiss.downcast_VectorTransform(index.chain.at(0))
    held = getattr(change, matrix)
    faiss.copy_array_to_vector(faiss.vector_to_array(held)[:-1], held)
    with pytest.raises(UserError, match="its transform 'Pcam' from 16 to 8 does not fit 16"):
        check_faiss(_written(tmp_path, index))
