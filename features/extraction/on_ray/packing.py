"""Decoded batches as bytes, to travel between Ray's workers: one row of an Arrow table each.

A row cannot be split, so a batch stays the batch that it is in one process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import ItemError, UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def pack(number: int, decoded: Sequence[NDArray[Any] | ItemError]) -> pa.Table:
    """Batch `number` as a table of one row. Raises UserError for arrays of Python objects."""
    import pyarrow as pa

    told: list[Any] = []
    parts = []
    for one in decoded:
        if isinstance(one, ItemError):
            told.append(str(one))
            continue
        array = np.asarray(one, order="C")
        if array.dtype.hasobject:
            raise UserError(
                "the encoder's input() returns arrays of Python objects, which do not travel "
                "between machines: return numbers or strings, or leave --engine ray out"
            )
        told.append([array.dtype.str, array.shape])
        parts.append(array.tobytes())
    return pa.table(
        {
            "batch": [number],
            "told": [json.dumps(told)],
            "content": pa.array([b"".join(parts)], pa.large_binary()),
        }
    )


def unpack(table: pa.Table) -> tuple[int, list[NDArray[Any] | ItemError]]:
    """What `pack` was given; the arrays are copies, which an encoder may write to."""
    number, told = table["batch"][0].as_py(), json.loads(table["told"][0].as_py())
    buffer = table["content"][0].as_buffer()
    decoded: list[NDArray[Any] | ItemError] = []
    place = 0
    for one in told:
        if isinstance(one, str):
            decoded.append(ItemError(one))
            continue
        dtype, shape = np.dtype(one[0]), tuple(one[1])
        size = math.prod(shape) * dtype.itemsize
        flat = np.frombuffer(buffer[place : place + size], dtype)
        decoded.append(flat.reshape(shape).copy())
        place += size
    return number, decoded
