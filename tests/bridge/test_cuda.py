"""The same on a GPU, where there is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bridge.artefact import load
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.pseudo_pairs.exact import retrieve
from bridge.search import search_memory
from bridge.training.train import train
from features.memories.streamed_rows import StreamedRows
from features.search.nearest import ExactSearch
from tests.bridge.conftest import SETTINGS, unit_rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_a_bridge_trained_on_the_gpu_is_repeatable_and_projects_as_on_the_cpu(world, tmp_path):
    settings = replace(SETTINGS, precision="fp32")
    for name in ("one", "same"):
        train(world.hub, world.leaf, tmp_path / name, settings, device="cuda")
    one, same = (tmp_path / name / "bridge.safetensors" for name in ("one", "same"))
    assert one.read_bytes() == same.read_bytes()
    rows = world.test[0].tensor()
    projected = [
        load(tmp_path / "one", device=device).project(rows, world.test[0].space).cpu()
        for device in ("cuda", "cpu")
    ]
    torch.testing.assert_close(*projected, atol=1e-4, rtol=0)


def test_bfloat16_training_reaches_what_float32_does(world, tmp_path):
    for precision in ("fp32", "bf16"):
        settings = replace(SETTINGS, precision=precision)
        trained = train(world.hub, world.leaf, tmp_path / precision, settings, device="cuda")
        figures = evaluate_retrieval(trained, *world.test)
        assert figures.forward.recall[1] > 4 * figures.chance


def test_retrieval_on_the_gpu_equals_that_on_the_cpu():
    queries, keys = unit_rows(50, 16, seed=1).float(), unit_rows(300, 16, seed=2).float()
    (there,) = retrieve(queries.cuda(), keys.cuda(), temperature=0.05)
    (here,) = retrieve(queries, keys, temperature=0.05)
    torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=0)


def test_rows_from_the_disk_come_to_the_gpu_as_those_of_the_memory(world):
    memory = world.leaf[0]
    rows, index = StreamedRows([memory, memory], "cuda"), torch.tensor([3, 0, 100], device="cuda")
    there = torch.cat([memory.tensor(), memory.tensor()])
    torch.testing.assert_close(rows[10:100].cpu(), there[10:100], atol=1e-6, rtol=0)
    torch.testing.assert_close(
        rows.index_select(0, index).cpu(), there[index.cpu()], atol=1e-6, rtol=0
    )
    (found,) = retrieve(there[:9].cuda(), rows, temperature=0.05)
    (here,) = retrieve(there[:9], there, temperature=0.05)
    torch.testing.assert_close(found.cpu(), here, atol=1e-4, rtol=0)


@pytest.mark.parametrize("unit", [False, True])
def test_exact_search_on_the_gpu_finds_the_rows_of_float64(unit):
    rows, queries = unit_rows(70_000, 64, seed=1), unit_rows(40, 64, seed=2)
    rows[1000:1100] = rows[7]  # ties go to the first
    queries[0] = rows[7]
    wide = rows.half().double()
    norms = wide.norm(dim=1) if unit else torch.ones(len(wide)).double()
    right = (queries.float().double() @ wide.T / norms).sort(dim=1, descending=True, stable=True)
    search = ExactSearch(rows.half(), unit=unit, device="cuda")
    scores, found = search.search(queries.float().cuda(), 10)
    torch.testing.assert_close(found.cpu(), right.indices[:, :10])
    torch.testing.assert_close(scores.cpu().double(), right.values[:, :10], atol=1e-6, rtol=0)


def test_queries_on_the_gpu_find_what_they_find_on_the_cpu(world):
    memory = world.test[1]
    rows = memory.tensor()
    for some in (rows[:2], rows.repeat(3, 1)[:40]):
        here = search_memory(some, memory, 3)
        there = search_memory(some.cuda(), memory, 3)
        assert [[hit.id for hit in one] for one in there] == [
            [hit.id for hit in one] for one in here
        ]
