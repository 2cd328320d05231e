"""Search over shards finds what one search finds, ties included, whoever is done first."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from features.memories.memory import Memory
from features.memories.sharded import open_memory
from features.memories.writing import save_memory
from features.search.in_parts import Best, nearest_in_memory
from features.search.nearest import nearest
from features.tasks import Processes, open_tasks
from tests.features.helpers import unit_rows
from tests.features.shards import write_shards

N, WIDTH = 900, 12
CUTS = [0, 100, 101, 400, 400, 777, 900]  # eight shards; three are empty


@pytest.fixture(scope="module", params=["float16", "float32"])
def whole(request, tmp_path_factory) -> Memory:
    """Every row is there several times, in several shards."""
    folder: Path = tmp_path_factory.mktemp("parts")
    rows = unit_rows(N, WIDTH, seed=0).astype(request.param)
    rows = rows[np.random.default_rng(0).integers(150, size=N)]
    made = save_memory(folder / "whole.h5", rows, range(N), space="s", modality="image")
    write_shards(folder, made, CUTS)
    return made


@pytest.fixture(scope="module")
def sharded(whole) -> Memory:
    return open_memory(whole.path.with_name("m.h5"))


def naive(queries: torch.Tensor, memory: Memory, k: int) -> torch.Tensor:
    rows = np.asarray(memory.embeddings, dtype=np.float64)
    norms = np.sqrt((rows**2).sum(axis=1))
    scores = np.array([[float(row @ q) for row in rows] for q in queries.double().numpy()]) / norms
    # Equal rows have equal scores, to the last bit, as they do here; the first is nearest.
    return torch.from_numpy(np.argsort(-scores, axis=1, kind="stable")[:, :k].copy())


@pytest.mark.parametrize("k", [1, 7, 120, 950])
def test_the_same_rows_in_the_same_order(whole, sharded, k):
    queries = torch.from_numpy(unit_rows(30, WIDTH, seed=3))
    scores, rows = nearest_in_memory(queries, sharded, k)
    expected_scores, expected = nearest(queries, whole.embeddings, k, unit=True)
    assert torch.equal(rows, expected)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(rows[:3], naive(queries[:3], whole, k))


def test_elsewhere_too(whole, sharded):
    queries = torch.from_numpy(unit_rows(30, WIDTH, seed=3))
    expected = nearest(queries, whole.embeddings, 20, unit=True)
    with Processes(2) as tasks:
        found = nearest_in_memory(queries, sharded, 20, tasks=tasks)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_on_ray(whole, sharded):
    pytest.importorskip("ray")
    queries = torch.from_numpy(unit_rows(30, WIDTH, seed=3))
    expected = nearest(queries, whole.embeddings, 20, unit=True)
    with open_tasks("ray") as tasks:
        found = nearest_in_memory(queries, sharded, 20, tasks=tasks)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_best_merge_in_any_order():
    scores = [[[3.0, 2.0]], [[3.0, 1.0]], [[4.0, 3.0]], [[]]]
    rows = [[[7, 8]], [[1, 2]], [[20, 21]], [[]]]
    parts = [
        Best(np.array(one, dtype=float), np.array(other, dtype=np.int64))
        for one, other in zip(scores, rows, strict=True)
    ]
    for order in itertools.permutations(parts):
        best = order[0]
        for other in order[1:]:
            best = best.merged(other, 4)
        assert best.scores.tolist() == [[4.0, 3.0, 3.0, 3.0]]
        assert best.rows.tolist() == [[20, 1, 7, 21]]
