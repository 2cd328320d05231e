"""Approximate retrieval against the formula in float64, on memories that are hard for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge.pseudo_pairs import approximate as approximate_retrieval
from bridge.pseudo_pairs.approximate import TOLERANCE, retrieve_approximate
from bridge.pseudo_pairs.retriever import RetrievalNote, index_beside
from bridge.training.training_set import build_training_set, check_memories, load_rows
from features.memories.memory import Memory
from features.memories.writing import save_memory
from features.search.building import build_index
from tests.bridge.conftest import SETTINGS, World
from tests.bridge.pseudo_pairs.test_sparse_retrieval import (
    MEMORIES,
    D,
    asked,
    classes,
    draw,
    naive,
    scattered,
    unit,
)

ITEMS = 8000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done with millions of items, with thousands."""
    monkeypatch.setattr(approximate_retrieval, "SAMPLED", 1000)
    monkeypatch.setattr(approximate_retrieval, "_FLAT", 4000)


def error(found: Tensor, queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    return 1 - (naive(queries, keys, keys, temperature) * found.double()).sum(dim=1)


@pytest.mark.parametrize("make", MEMORIES)
@pytest.mark.parametrize("temperature", [1e-4, 0.01, 0.05, 10.0])
def test_values_are_those_of_the_formula(make, temperature):
    keys = make(ITEMS)
    queries = asked(keys)
    found = retrieve_approximate(queries, keys, temperature=temperature)
    assert float(error(found.values[0], queries, keys, temperature).max()) < 2 * TOLERANCE
    torch.testing.assert_close(found.values[0].norm(dim=1), torch.ones(len(queries)))
    assert float(found.error.max()) <= TOLERANCE
    assert bool(((found.outside >= 0) & (found.outside <= 1)).all())
    assert found.kind == "IndexIVFScalarQuantizer"


def test_clustered_items_at_the_published_temperature_need_no_help():
    keys = classes(ITEMS)
    queries = unit(keys[::40] + 0.05 * draw(ITEMS // 40, D, seed=8))
    found = retrieve_approximate(queries, keys, temperature=0.01)
    assert float(error(found.values[0], queries, keys, 0.01).max()) < 1e-3
    assert found.exact == 0
    assert found.recall >= 0.99


def test_the_share_outside_is_that_of_the_kept_items():
    keys = classes(ITEMS)
    queries = unit(keys[::40] + 0.05 * draw(ITEMS // 40, D, seed=8))
    weights = torch.softmax(queries.double() @ keys.double().T / 0.05, dim=1)
    for kept in (32, 128, 512):
        right = 1 - weights.topk(kept, dim=1).values.sum(dim=1)
        found = retrieve_approximate(queries, keys, temperature=0.05, kept=kept).outside
        assert float((found - right).mean().abs()) < 0.02
        assert float((found - right).abs().max()) < 0.3


@pytest.mark.parametrize("items", [1, 2, 9, 300, 1000])
def test_memories_no_larger_than_the_sample_are_answered_by_all_items(items):
    keys = scattered(items)
    queries = asked(scattered(3000))
    found = retrieve_approximate(queries, keys, temperature=0.02)
    assert float(error(found.values[0], queries, keys, 0.02).max()) < 1e-6
    assert (found.exact, found.recall, float(found.outside.max())) == (len(queries), 1.0, 0.0)


@pytest.mark.parametrize("items", [1001, 1100, 4000])
def test_small_memories_are_compared_as_they_are(items):
    keys = scattered(items)
    queries = asked(scattered(3000))
    found = retrieve_approximate(queries, keys, temperature=0.01, kept=2000)
    assert float(error(found.values[0], queries, keys, 0.01).max()) < TOLERANCE
    assert (found.recall, found.kind) == (1.0, "IndexFlat")
    if items < 2000:
        assert float(found.outside.max()) < 1e-6


def test_values_may_be_others_than_the_keys():
    keys, values = classes(ITEMS), unit(draw(ITEMS, 20, seed=9) + 1)
    queries = unit(keys[::200] + 0.05 * draw(ITEMS // 200, D, seed=8))
    found = retrieve_approximate(queries, keys, (keys, values), temperature=0.01)
    for table, ours in zip((keys, values), found.values, strict=True):
        right = naive(queries, keys, table, 0.01)
        assert float((1 - (right * ours.double()).sum(dim=1)).max()) < 2 * TOLERANCE


def test_the_same_queries_get_the_same_bits_in_any_type_and_layout():
    keys = classes(ITEMS)
    queries = asked(keys)
    right = retrieve_approximate(queries, keys, temperature=0.01).values[0]
    for other in (queries, queries.T.contiguous().T, queries.double()):
        assert torch.equal(retrieve_approximate(other, keys, temperature=0.01).values[0], right)
    assert retrieve_approximate(queries[:0], keys, temperature=0.01).values[0].shape == (0, D)


@pytest.mark.parametrize("count", [1, 7, 1500])
def test_progress_ends_with_all_queries(count):
    keys, told = classes(ITEMS), []
    queries = unit(draw(count, D, seed=3))
    retrieve_approximate(queries, keys, temperature=1e-4, advance=told.append)
    assert sum(told) == count


def test_an_index_that_finds_nothing_near_is_not_trusted():
    keys = classes(ITEMS)
    queries = unit(keys[::200] + 0.05 * draw(ITEMS // 200, D, seed=8))
    import faiss

    blind = faiss.IndexFlatIP(D)
    blind.add((-keys).numpy())
    found = retrieve_approximate(queries, keys, temperature=0.05, index=blind)
    assert found.recall == 0
    assert float(found.outside.min()) > 0.99
    assert float(error(found.values[0], queries, keys, 0.05).max()) < 2 * TOLERANCE


def leaf_memory(folder: Path, rows: Tensor) -> Memory:
    ids = [str(number) for number in range(len(rows))]
    return save_memory(folder / "leaf.h5", rows.numpy(), ids, space="left", modality="audio")


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_index_beside_the_memory_is_used(tmp_path, kind):
    memory = leaf_memory(tmp_path, classes(2000))
    assert index_beside(memory) is None
    build_index(memory, tmp_path / "leaf.faiss", kind=kind)
    index = index_beside(memory)
    assert index is not None
    keys = memory.tensor()
    queries = unit(keys[::50] + 0.05 * draw(40, D, seed=8))
    found = retrieve_approximate(queries, keys, temperature=0.01, index=index.faiss_index)
    assert float(error(found.values[0], queries, keys, 0.01).max()) < 1e-3
    assert found.kind == type(index.faiss_index).__name__
    assert found.recall >= 0.99


@pytest.mark.parametrize("harm", ["of another memory", "damaged"])
def test_an_index_that_does_not_fit_is_told_and_left(tmp_path, harm):
    memory = leaf_memory(tmp_path, classes(ITEMS)[::4])
    build_index(memory, tmp_path / "leaf.faiss")
    if harm == "damaged":
        (tmp_path / "leaf.faiss").write_bytes(b"no index")
    else:
        memory.path.unlink()
        memory = leaf_memory(tmp_path, classes(ITEMS)[1::4])
    with pytest.warns(RetrievalNote, match="is not used for retrieval, another index is"):
        assert index_beside(memory) is None


def rows_of(world: World, leaf: list[Memory], **changes: Any) -> dict[str, dict[str, Tensor]]:
    settings = replace(SETTINGS, **changes)
    frozen = load_rows(
        check_memories(world.hub, leaf), holdout=0.2, seed=0, device=torch.device("cpu")
    )
    return build_training_set(frozen, settings).rows


@pytest.mark.parametrize("kind", ["hub", "leaf", "all"])
def test_training_sets_are_the_same_to_the_tolerance_and_it_is_told(world, monkeypatch, kind):
    monkeypatch.setattr(approximate_retrieval, "SAMPLED", 32)
    exact = rows_of(world, world.leaf, pseudo_pairs=kind, retrieval="exact")
    with pytest.warns(RetrievalNote, match=r"recall@10 1\.000, about .* of the softmax"):
        near = rows_of(world, world.leaf, pseudo_pairs=kind, retrieval="approximate")
    for space, roles in exact.items():
        for role, rows in roles.items():
            assert float((1 - (rows * near[space][role]).sum(dim=1)).max()) < 2 * TOLERANCE


def test_an_index_of_one_of_several_memories_is_not_taken_for_all(world, tmp_path, monkeypatch):
    monkeypatch.setattr(approximate_retrieval, "SAMPLED", 32)
    rows = world.leaf[0].tensor().numpy()
    encoder = world.leaf[0].header.encoder
    parts = [
        save_memory(
            tmp_path / f"{start}.h5", rows[start : start + 32], [str(i) for i in range(32)],
            space="left", modality="audio", encoder=encoder,
        )
        for start in (0, 32)
    ]  # fmt: skip
    build_index(parts[0], tmp_path / "0.faiss")
    with pytest.warns(RetrievalNote, match="by IndexFlat"):
        joined = rows_of(world, parts, retrieval="approximate")
    with pytest.warns(RetrievalNote, match="by IndexFlat"):
        whole = rows_of(world, [world.leaf[0]], retrieval="approximate")
    torch.testing.assert_close(joined["left"]["leaf"], whole["left"]["leaf"])
