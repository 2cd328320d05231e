"""Pseudo pairs from shards are those from one memory: to the bit on the disk, to 1e-6 from RAM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from bridge.pseudo_pairs import in_parts
from bridge.pseudo_pairs.exact import retrieve
from bridge.pseudo_pairs.in_parts import retrieve_in_parts
from bridge.pseudo_pairs.retriever import retriever
from features.memories.memory import Memory
from features.memories.sharded import open_memory
from features.memories.streamed_rows import StreamedRows
from features.memories.writing import save_memory
from features.tasks import Processes, open_tasks
from tests.bridge.conftest import unit
from tests.features.shards import write_shards

N, WIDTH = 9000, 24
CUTS = [0, 1000, 1001, 4096, 4096, 7777, 9000]  # eight shards; three are empty
TEMPERATURES = [1e-3, 0.01, 1.0]


def hard_rows() -> np.ndarray:
    """Clusters, and items that are there many times, within a shard and across them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, WIDTH))
    rows = unit(centres[rng.integers(30, size=N)] + 0.1 * rng.normal(size=(N, WIDTH)))
    rows[rng.integers(N, size=3000)] = rows[5]
    rows[-1] = rows[0]
    return rows.astype("f2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Memory:
    folder = tmp_path_factory.mktemp("shards")
    made = save_memory(folder / "whole.h5", hard_rows(), range(N), space="s", modality="image")
    write_shards(folder, made, CUTS)
    return made


@pytest.fixture(scope="module")
def sharded(whole) -> Memory:
    return open_memory(whole.path.with_name("m.h5"))


@pytest.fixture(scope="module")
def queries(whole) -> torch.Tensor:
    """Rows of the memory, rows near to it, and others."""
    rng = np.random.default_rng(1)
    rows = whole.tensor().numpy()
    near = unit(rows[:200] + 0.3 * rng.normal(size=(200, WIDTH)))
    asked = np.concatenate([rows[:50], near, unit(rng.normal(size=(80, WIDTH)))])
    return torch.from_numpy(asked.astype("f4"))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(in_parts, "_QUERIES", 200)
    monkeypatch.setattr(in_parts, "_ROWS", 4096)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_eight_shards_are_as_good_as_one_memory(whole, sharded, queries, temperature):
    found = retrieve_in_parts(queries, StreamedRows([sharded]), temperature=temperature)
    one = retrieve_in_parts(queries, StreamedRows([whole]), temperature=temperature)
    assert torch.equal(found, one)
    for rows in (StreamedRows([whole]), whole.tensor()):
        (unsharded,) = retrieve(queries, rows, temperature=temperature)
        assert float((found - unsharded).abs().max()) <= 1e-6
    rows = whole.tensor().double()
    weights = torch.softmax(queries.double() @ rows.T / temperature, dim=1)
    naive = normalize(weights @ rows, dim=1)
    assert float((1 - (found * naive).sum(dim=1)).max()) < 1e-6


def test_double_precision_is_the_formula(sharded, queries):
    asked = queries[:20].double()
    rows = StreamedRows([sharded])[:].double()
    expected = normalize(torch.softmax(asked @ rows.T / 0.01, dim=1) @ rows, dim=1)
    found = retrieve_in_parts(asked, StreamedRows([sharded]), temperature=0.01)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_cores_does_not_matter(sharded, queries, threads):
    before = torch.get_num_threads()
    expected = retrieve_in_parts(queries, StreamedRows([sharded]), temperature=0.01)
    try:
        torch.set_num_threads(threads)
        found = retrieve_in_parts(queries, StreamedRows([sharded]), temperature=0.01)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, expected)


def test_neither_do_processes(sharded, queries):
    expected = retrieve_in_parts(queries, StreamedRows([sharded]), temperature=0.01)
    for count in (1, 3):
        with Processes(count) as tasks:
            rows, told = StreamedRows([sharded]), []
            by = retriever("auto", tasks=tasks)
            (found,) = by(queries, rows, (rows,), temperature=0.01, advance=told.append)
        assert torch.equal(found, expected)
        assert (sum(told), min(told) >= 0) == (len(queries), True)


def test_nor_does_ray(sharded, queries):
    pytest.importorskip("ray")
    expected = retrieve_in_parts(queries, StreamedRows([sharded]), temperature=0.01)
    with open_tasks("ray") as tasks:
        found = retrieve_in_parts(queries, StreamedRows([sharded]), temperature=0.01, tasks=tasks)
    assert torch.equal(found, expected)


def test_no_queries_have_no_pseudo_pairs(sharded, queries):
    assert retrieve_in_parts(queries[:0], StreamedRows([sharded]), temperature=0.1).shape == (
        0,
        WIDTH,
    )


@pytest.mark.parametrize("temperature", [1e-3, 0.01])
@pytest.mark.parametrize("space", ["clip", "clap"])
def test_real_embeddings(tmp_path: Path, vggsound_file: Path, space: str, temperature: float):
    with np.load(vggsound_file) as read:
        rows = unit(next(read[name] for name in read.files if name.startswith(space)))
    made = save_memory(
        tmp_path / "w.h5", rows.astype("f2"), range(len(rows)), space=space, modality="text"
    )
    write_shards(tmp_path, made, [30, 60, 60, 150, 200, 220, 300])
    asked = torch.from_numpy(unit(rows + np.roll(rows, 1, axis=0)).astype("f4"))
    found = retrieve_in_parts(
        asked, StreamedRows([open_memory(tmp_path / "m.h5")]), temperature=temperature
    )
    (unsharded,) = retrieve(asked, made.tensor(), temperature=temperature)
    assert float((found - unsharded).abs().max()) <= 1e-6
