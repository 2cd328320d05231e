"""What runs on Ray's workers: decoding in tasks, encoders in actors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.device import cpu_count
from features.encoders import Encoder, ItemInput, LocalEncoder, load_with
from features.errors import UserError
from features.extraction.decode_batches import decode_batches
from features.extraction.embed import embed_batch
from features.extraction.on_ray.packing import answer, as_json, pack, pack_error, unpack
from features.memories.provenance import side_by_side

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from features.memories.memory import MemoryHeader
    from features.memories.strings import StringColumn
    from features.space import Modality, Space

MOST_ATTEMPTS = 5  # at a batch whose workers are lost


@dataclass(frozen=True)
class Items:
    """Every item of a job, as the decoders take them; Ray shares its bytes among processes."""

    values: StringColumn
    root: Path | None
    batch_size: int

    def batch(self, number: int) -> list[str | Path]:
        """What the input function takes for the items of batch `number`."""
        start = number * self.batch_size
        values = self.values[start : start + self.batch_size]
        return [value if self.root is None else self.root / value for value in values]


class Attempts:
    """An actor that counts how often each batch was begun: Ray Data tries lost ones for ever."""

    def __init__(self) -> None:
        self.begun: Counter[tuple[str, int]] = Counter()

    def begin(self, stage: str, number: int) -> int:
        """How often batch `number` was begun in this stage, this time counted."""
        self.begun[stage, number] += 1
        return self.begun[stage, number]


def _attempt(attempts: Any, stage: str, number: int, items: Items) -> int:
    """Begin a batch. Raises UserError if it was lost with its worker too often."""
    import ray

    attempt: int = ray.get(attempts.begin.remote(stage, number))
    if attempt > MOST_ATTEMPTS:
        raise UserError(
            f"the worker that {stage} batch {number} (from {items.batch(number)[0]}) was lost "
            f"{MOST_ATTEMPTS} times: it may need more memory than there is; pass a smaller "
            "--batch-size, or look for the reason in Ray's logs"
        )
    return attempt


@dataclass(frozen=True)
class Decoding:
    """What decoders need; `items` and `make_input`, a `CarriedInput`, are in Ray's store.

    first: the batch that Ray counts as 0. item_timeout: as `decode_batches` takes it.
    """

    items: Any
    make_input: Any
    attempts: Any
    first: int
    item_timeout: float | None


def decode_numbers(block: Mapping[str, NDArray[np.int64]], how: Decoding) -> Iterator[pa.Table]:
    """The batches that `block` names by number, each as a row of a table.

    Where a worker was lost, its batches are decoded in a process of their own, so that an item that
    kills its decoder kills only that, and is a bad item.
    """
    items: Items = _stored(how.items)
    careful = False
    for number in (block["id"] + how.first).tolist():
        try:
            careful |= _attempt(how.attempts, "decodes", number, items) > 1
            (decoded,) = decode_batches(
                _stored(how.make_input), [items.batch(number)],
                workers=int(careful or bool(how.item_timeout)), item_timeout=how.item_timeout,
            )  # fmt: skip
            yield pack(number, decoded)
        except UserError as error:
            yield pack_error(number, error)


@lru_cache(maxsize=4)
def _stored(reference: Any) -> Any:
    """An object of Ray's store, unpacked once in a process."""
    import ray

    return ray.get(reference)


@dataclass(frozen=True)
class EncoderRecipe:
    """How a worker loads the encoder; of a module of the user's, the loader brings its code."""

    spec: str
    load: Callable[..., Any]
    argument: str
    device: str
    precision: str

    def encoder(self) -> Encoder:
        """The encoder. Raises UserError if it cannot be loaded here."""
        return load_with(
            self.load, self.argument, self.spec, device=self.device, precision=self.precision
        )


@dataclass(frozen=True)
class Embedding:
    """What an actor needs beside the arrays.

    items: in Ray's store. threads: that torch computes with in the process that started the
    extraction; sums depend on it.
    """

    items: Any
    attempts: Any
    recipe: EncoderRecipe
    header: MemoryHeader
    description: Mapping[str, Any]
    threads: int


class Embed:
    """An actor with the encoder: packed batches in, rows as a memory stores them out."""

    def __init__(self, reference: Any) -> None:
        self.how: Embedding = _stored(reference)
        self.error: UserError | None = None
        try:
            self.encoder = _ready(self.how)
        except UserError as error:  # told with the first batch: Ray takes it for a lost worker here
            self.error = error

    def __call__(self, table: pa.Table) -> pa.Table:
        try:
            if self.error is not None:
                raise self.error
            number, decoded = unpack(table)
            _attempt(self.how.attempts, "embeds", number, _stored(self.how.items))
            rows, reasons = embed_batch(self.encoder, decoded, self.how.header)
        except UserError as error:
            return answer(b"", {}, error=as_json(error))
        return answer(rows.tobytes(), reasons)


def _ready(how: Embedding) -> Encoder:
    """The encoder, which must be the one that the memory will name."""
    import torch

    torch.set_num_threads(min(how.threads, cpu_count()))
    encoder = how.recipe.encoder()
    encoder.input(how.header.modality)  # before its description is read
    here = encoder.description.as_dict()
    if here != how.description:
        names = [name for name in here if here[name] != how.description.get(name)]
        raise UserError(
            f"a worker has another encoder than this extraction ({' and '.join(names)}): install "
            "the same packages and weights on all machines",
            details=side_by_side(("started with", how.description), ("worker", here)),
        )
    return encoder


@dataclass(frozen=True)
class Described:
    """An encoder that is on the workers alone: everything of it but the network."""

    space: Space
    description: Any
    make_input: ItemInput
    length: int

    def input(self, modality: Modality) -> ItemInput:
        """The function from an item to the array that the network takes."""
        self.space.require(modality)
        return self.make_input

    def local_length(self, modality: Modality) -> int:
        """Parts of an item at most; 0 if this modality has none."""
        self.space.require(modality)
        return self.length

    def encode(self, batch: Any, modality: Modality) -> Any:  # noqa: ARG002
        """Raises UserError: only workers can."""
        raise UserError(
            f"the encoder {self.description.name} is on the workers of Ray alone, which embed "
            f"{modality}: pass their engine to extract()"
        )

    encode_local = encode


def describe(recipe: EncoderRecipe, modality: Modality) -> Described:
    """Load the encoder here, and tell what a machine without it needs to know."""
    encoder = recipe.encoder()
    encoder.space.require(modality)
    make_input = encoder.input(modality)
    length = encoder.local_length(modality) if isinstance(encoder, LocalEncoder) else 0
    return Described(encoder.space, encoder.description, make_input, length)
