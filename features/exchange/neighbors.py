"""Exact nearest neighbours, as benchmarks of approximate search need them, and their files.

Axes: q queries, n rows searched, k neighbours, nearest first. Distances are 1 - cosine, which
ann-benchmarks calls angular.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.files import require_file
from features.hdf5 import refuse_links, require_numbers, require_sound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.memories.memory import Memory

_SEARCHED = 65_536  # rows at a time
_DAMAGED = (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class Neighbors:
    """rows: (q, k) int32. distances: (q, k) float32, or None where a file has none."""

    rows: NDArray[np.int32]
    distances: NDArray[np.float32] | None


def exact_neighbors(queries: Memory, memory: Memory, k: int) -> Neighbors:
    """The k rows of `memory` nearest to every row of `queries`, all of them if there are fewer.

    Raises UserError if the two are not of one space.
    """
    import faiss

    one, other = ((m.space, m.dimension) for m in (queries, memory))
    if one != other:
        raise UserError(
            f"{queries.path} is of the space {one[0]} ({one[1]}-d) but {memory.path} of "
            f"{other[0]} ({other[1]}-d): give queries of the same space"
        )
    k = min(k, len(memory))
    wanted = _unit(queries.embeddings)
    nearest = faiss.ResultHeap(nq=len(wanted), k=k, keep_max=True)
    for start in range(0, len(memory), _SEARCHED):
        block = _unit(memory.read(start, start + _SEARCHED))
        scores, rows = faiss.knn(wanted, block, min(k, len(block)), faiss.METRIC_INNER_PRODUCT)
        nearest.add_result(scores, rows + start)
    nearest.finalize()
    return Neighbors(nearest.I.astype(np.int32), (1 - nearest.D).astype(np.float32))


def write_ibin(neighbors: Neighbors, path: Path) -> None:
    """big-ann's .ibin: uint32 q, uint32 k, then the rows' numbers as int32."""
    with path.open("wb") as file:
        file.write(np.array(neighbors.rows.shape, dtype="<u4").data)
        file.write(np.ascontiguousarray(neighbors.rows, dtype="<i4").data)


def read_neighbors(path: str | Path) -> Neighbors:
    """Neighbours from a .ibin file or from `neighbors` and `distances` of an HDF5 file.

    Raises UserError if they are not there.
    """
    path = require_file(Path(path), "neighbours")
    if path.suffix.lower() != ".ibin":
        return _read_hdf5(path)
    header = np.fromfile(path, "<u4", 2)
    shape = tuple(int(one) for one in header) if len(header) == 2 else (0, 0)
    expected, found = 8 + shape[0] * shape[1] * 4, path.stat().st_size
    if found != expected or not shape[0]:
        raise UserError(
            f"{path} has {found} bytes but the {shape[0]} x {shape[1]} neighbours that its header "
            f"tells of need {expected}: download it again"
        )
    rows = np.fromfile(path, "<i4", offset=8).reshape(shape)
    return Neighbors(rows.astype(np.int32, copy=False), None)


def _read_hdf5(path: Path) -> Neighbors:
    import h5py

    try:
        require_sound(path)
        with h5py.File(path, "r") as file:
            refuse_links(file)
            rows = _numbers(file["neighbors"], path, np.int32)
            distances = None
            if "distances" in file:
                distances = _numbers(file["distances"], path, np.float32)
        if rows.ndim != 2 or (distances is not None and distances.shape != rows.shape):
            raise ValueError(f"its neighbours are {rows.shape}, not (queries, neighbours)")
    except _DAMAGED as error:
        raise UserError(
            f"{path} has no neighbours ({error}): give a .ibin file, or an HDF5 file of "
            "ann-benchmarks"
        ) from error
    return Neighbors(rows, distances)


def _numbers(dataset: Any, path: Path, dtype: type[Any]) -> NDArray[Any]:
    require_numbers(dataset, path)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(dataset[...], dtype=dtype)


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    wide = np.array(rows, dtype=np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide
