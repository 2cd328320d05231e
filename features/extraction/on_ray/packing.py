"""Decoded batches as bytes, to travel between Ray's workers: one row of an Arrow table each.

A row cannot be split, so a batch stays the batch that it is in one process. What the user can put
right travels in the row as well: it is told when the batches before are done.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import ItemError, UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def pack(number: int, decoded: Sequence[NDArray[Any] | ItemError]) -> pa.Table:
    """Batch `number` as a table of one row. Raises UserError for arrays of Python objects."""
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
    return _row(number, told, b"".join(parts))


def pack_error(number: int, error: UserError) -> pa.Table:
    """In the place of batch `number`, why there is none."""
    return _row(number, [], b"", error=as_json(error))


def _row(number: int, told: list[Any], content: bytes, *, error: str = "") -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "batch": [number],
            "told": [json.dumps(told)],
            "content": pa.array([content], pa.large_binary()),
            "error": [error],
        }
    )


def answer(rows: bytes, reasons: Mapping[int, str], *, error: str = "") -> pa.Table:
    """An embedded batch as a row of a table: rows as stored, and why items have none."""
    import pyarrow as pa

    return pa.table(
        {
            "rows": pa.array([rows], pa.large_binary()),
            "reasons": [json.dumps(sorted(reasons.items()))],
            "error": [error],
        }
    )


def as_json(error: UserError) -> str:
    """The error for `raise_error`."""
    return json.dumps([str(error), error.details])


def raise_error(error: str) -> None:
    """Raise the error that `as_json` wrote, if it is not empty."""
    if error:
        message, details = json.loads(error)
        raise UserError(message, details=details)


def unpack(table: pa.Table) -> tuple[int, list[NDArray[Any] | ItemError]]:
    """What `pack` was given; the arrays are copies, which an encoder may write to.

    Raises the UserError that `pack_error` was given.
    """
    raise_error(table["error"][0].as_py())
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
