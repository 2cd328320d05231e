"""Indices on a GPU where FAISS and torch see one; else, what is said of it."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from features.errors import UserError
from features.memories.writing import save_memory
from features.search.building import build_index
from features.search.index import open_index
from features.search.nearest import nearest
from tests.features.helpers import unit_rows

GPUS = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
GPUS = GPUS if torch.cuda.is_available() else 0
needs_gpu = pytest.mark.skipif(not GPUS, reason="needs faiss-gpu and a CUDA device")


def _index(folder: Path, kind: str) -> Path:
    rows = unit_rows(3000, 32)
    memory = save_memory(folder / "m.h5", rows, [str(i) for i in range(3000)], space="s",
                         modality="text")  # fmt: skip
    return build_index(memory, folder / "i.faiss", kind=kind).path


@needs_gpu
@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_flat_and_ivf_are_searched_on_the_gpu(tmp_path: Path, kind: str) -> None:
    path, queries = _index(tmp_path, kind), unit_rows(50, 32, seed=3)
    here, there = open_index(path), open_index(path, device="cuda")
    assert there.on_gpu is not None
    for k in (10, 2500):  # FAISS finds at most 2,048 there
        expected, found = here.search_rows(queries, k), there.search_rows(queries, k)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-3)
        assert np.mean(found[1] == expected[1]) > 0.99


@needs_gpu
def test_graphs_stay_on_the_cpu(tmp_path: Path) -> None:
    path = _index(tmp_path, "hnsw")
    assert open_index(path, device="auto").on_gpu is None
    with pytest.raises(UserError, match=r"has no IndexHNSW.* there: build it as flat or ivf"):
        open_index(path, device="cuda")


@pytest.mark.skipif(bool(GPUS), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu(tmp_path: Path) -> None:
    path, queries = _index(tmp_path, "flat"), unit_rows(5, 32, seed=3)
    auto = open_index(path, device="auto")
    assert auto.on_gpu is None
    np.testing.assert_array_equal(
        auto.search_rows(queries, 3)[1], open_index(path).search_rows(queries, 3)[1]
    )


@pytest.mark.skipif(bool(GPUS), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = _index(tmp_path, "flat")
    message = "sees 0 CUDA|sees 0 GPUs: uninstall faiss-cpu"  # torch's answer, or FAISS's
    with pytest.raises(UserError, match=message):
        open_index(path, device="cuda")
    with pytest.raises(UserError, match="'gpu' is not a device"):
        open_index(path, device="gpu")


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs MPS")
def test_exact_search_is_refused_where_there_is_no_float64() -> None:
    rows = torch.from_numpy(unit_rows(30, 8))
    with pytest.raises(UserError, match="MPS does not have: search on the CPU"):
        nearest(rows.to("mps"), rows, 3)
