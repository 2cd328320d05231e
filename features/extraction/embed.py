"""One decoded batch through an encoder, and the engines that do so with many.

Axes: b items of a batch, t parts of an item, d dimensions.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from features.errors import ItemError, UserError
from features.memories.writing import bad_parts, bad_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.encoders import Encoder, LocalEncoder
    from features.extraction.job import Job
    from features.memories.memory import MemoryHeader

# Rows of a batch's good items as they are stored, and why the others have none, by place.
EmbeddedBatch = tuple["NDArray[Any]", dict[int, str]]


class Engine(Protocol):
    """Where a job's items are decoded and embedded, if not in this process."""

    def embed(self, job: Job, first: int) -> Generator[EmbeddedBatch]:
        """Batch `first` of the job and all after it, in order, each in the job's composition."""


def embed_batch(
    encoder: Encoder, decoded: Sequence[NDArray[Any] | ItemError], header: MemoryHeader
) -> EmbeddedBatch:
    """Rows of the batch's good items as `header` stores them, and the reasons of the bad ones."""
    reasons = {i: str(one) for i, one in enumerate(decoded) if isinstance(one, ItemError)}
    arrays = [one for one in decoded if not isinstance(one, ItemError)]
    kept = [i for i in range(len(decoded)) if i not in reasons]
    rows = np.zeros(len(kept), dtype=header.row_dtype())
    bad: dict[int, str] = {}
    if arrays:
        bad = _encode_into(rows, arrays, encoder, header)
    reasons |= {kept[row]: reason for row, reason in bad.items()}
    return np.delete(rows, list(bad), axis=0), reasons


def _encode_into(
    rows: NDArray[Any], arrays: Sequence[NDArray[Any]], encoder: Encoder, header: MemoryHeader
) -> dict[int, str]:
    """Fill `rows` with the embeddings of `arrays`; returns the bad ones with their reasons."""
    shape = (len(rows), header.dimension)
    if header.local_length:
        has_parts: LocalEncoder = encoder  # type: ignore[assignment]  # it has a local length
        embedded = has_parts.encode_local(arrays, header.modality)
        pooled = _checked(embedded.pooled, shape, encoder, header)
        local_shape = (len(rows), header.local_length, header.dimension)
        local = _checked(embedded.local, local_shape, encoder, header)
        mask = _checked(embedded.mask, local_shape[:2], encoder, header)
        rows["local"], rows["mask"] = local, mask
        bad = bad_parts(local, mask)
    else:
        pooled = _checked(encoder.encode(arrays, header.modality), shape, encoder, header)
        bad = {}
    rows["pooled"] = pooled
    return bad | bad_rows(pooled)


def _checked(
    embedded: object, shape: tuple[int, ...], encoder: Encoder, header: MemoryHeader
) -> NDArray[np.float32]:
    import torch

    name = encoder.description.name
    if not isinstance(embedded, torch.Tensor):
        kind = type(embedded).__name__
        raise UserError(f"the encoder {name} returned a {kind}, not a Tensor: mend the encoder")
    if embedded.shape != shape:
        parts = f" with {header.local_length} parts" * bool(header.local_length)
        raise UserError(
            f"the encoder {name} returned an array {tuple(embedded.shape)} for {shape[0]} items of "
            f"dimension {header.dimension}{parts}: mend the encoder"
        )
    array: NDArray[np.float32] = embedded.float().cpu().numpy()
    return array
