"""The same on a GPU, where there is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bridge.artefact import load
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.pseudo_pairs import retrieve
from bridge.training import train
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
