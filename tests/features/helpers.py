"""Deterministic material for the tests of `features`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from features.encoders import EncoderDescription, ItemInput
from features.errors import ItemError
from features.extraction.extract import Extraction, extract
from features.extraction.items import Item, Source
from features.memories.memory import Memory
from features.memories.writing import save_memory
from features.progress import Advance
from features.space import Modality, Space


def unit_rows(n: int, d: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Random unit vectors (n, d)."""
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def write_images(folder: Path, count: int, *, bad: Sequence[int] = ()) -> Path:
    """`count` noisy PNGs 000.png, 001.png, ..; those at `bad` are not images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (16, 32), dtype=np.uint8)
        path = folder / f"{i:03d}.png"
        if i in bad:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(pixels).save(path)
    return folder


class FakeInput:
    """The length and the codes of a sentence; `bad` has no embedding, `boom` breaks the decoder."""

    def __call__(self, item: str | Path) -> NDArray[Any]:
        text = str(item)
        if "bad" in text:
            raise ItemError("it is bad")
        if "boom" in text:
            raise ZeroDivisionError("boom\n  in the decoder")
        return np.frombuffer(text.encode().ljust(32)[:32], dtype=np.uint8).astype(np.float32)


class FakeEncoder:
    """Embeds sentences by a fixed random matrix.

    nan: sentences with this text get NaN. cut: columns or rows are missing from the answer.
    stop_after: the call of `encode` that raises KeyboardInterrupt, counted from 0.
    """

    def __init__(
        self, *, nan: str = "", wrong: str = "", stop_after: int | None = None, weights: str = "w"
    ) -> None:
        self.space = Space("fake", 8, ("text",))
        self.description = EncoderDescription("fake", "fake", weights, ("text",))
        self.matrix = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
        self.nan, self.wrong, self.stop_after = nan, wrong, stop_after
        self.calls = 0

    def input(self, modality: Modality) -> ItemInput:
        self.space.require(modality)
        return FakeInput()

    def encode(self, batch: Sequence[NDArray[Any]], modality: Modality) -> torch.Tensor:
        self.space.require(modality)
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        inputs = torch.from_numpy(np.stack(batch))
        rows = torch.nn.functional.normalize(inputs @ self.matrix, dim=1)
        for i, one in enumerate(batch):
            if self.nan and self.nan in bytes(one.astype(np.uint8)).decode():
                rows[i, 0] = torch.nan
        return {"": rows, "rows": rows[1:], "columns": rows[:, 1:]}[self.wrong]


class StopAfter:
    """A progress that raises KeyboardInterrupt when told of batch number `batches`."""

    def __init__(self, batches: int) -> None:
        self.left = batches
        self.told: list[int] = []

    @contextmanager
    def task(
        self,
        description: str,  # noqa: ARG002
        total: int,  # noqa: ARG002
        *,
        unit: str = "items",  # noqa: ARG002
        done: int = 0,
    ) -> Iterator[Advance]:
        self.told.append(done)

        def advance(count: int) -> None:
            self.told.append(count)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        yield advance


SENTENCES = ["one", "two bad", "three", "boom four", "five", "six", "seven bad", "eight"]


def fake_source(values: list[str] = SENTENCES, labels: bool = False) -> Source:
    """Sentences as a source, labelled by their first letter if wanted."""
    return Source([Item(v, v, v[:1] if labels else None) for v in values], None)


def fake_extract(out: Path, encoder: FakeEncoder | None = None, **options: Any) -> Extraction:
    """Extract `SENTENCES` in batches of three with a fake encoder."""
    source = options.pop("source", fake_source())
    return extract(source, encoder or FakeEncoder(), "text", out, **{"batch_size": 3, **options})


def files_of(folder: Path) -> dict[str, bytes]:
    """Name and content of every file in `folder`."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def changing(path: Path) -> Iterator[Any]:
    """A file of HDF5, open to be changed, without checksums as those of earlier versions."""
    with h5py.File(path, "r+") as file:
        file.attrs.pop("checksums", None)
        yield file


def saved(path: Path, n: int = 40, d: int = 8, dtype: str = "float32") -> Memory:
    """A memory of random unit rows with the ids `id 0`, `id 1`, .."""
    rows = unit_rows(n, d).astype(dtype)
    return save_memory(path, rows, [f"id {i}" for i in range(n)], space="s", modality="text")


def ended_process() -> int:
    """The number of a process that is no more."""
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid
