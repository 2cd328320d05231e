"""Memories in shards answer, and train, as the memories that they would be merged to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bridge import nearest_items
from bridge.search import search_memory
from bridge.training.train import train
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.sharded import ShardedMemory, open_memory
from features.memories.writing import write_memory
from features.tasks import InTurn, Processes
from tests.bridge.conftest import SETTINGS, unit_rows
from tests.features.shards import write_shards

SHORT = replace(SETTINGS, epochs=2, stream="always")


@pytest.fixture(scope="module")
def memories(world, tmp_path_factory) -> tuple[Memory, Memory]:
    """A leaf memory in which items are doubled, and its shards."""
    folder, leaf = tmp_path_factory.mktemp("shards"), world.leaf[0]
    rows = leaf.tensor().numpy()
    rows[40:60] = rows[:20]
    whole = write_memory(folder / "whole.h5", leaf.header, leaf.columns, [rows])
    write_shards(folder, whole, [0, 5, 30, 31, 31, 50, 64])
    return whole, open_memory(folder / "m.h5")


@pytest.mark.parametrize("k", [3, 30, 99])
def test_the_hits_of_shards_are_those_of_the_memory(made, memories, monkeypatch, k):
    monkeypatch.setattr(nearest_items, "BLOCK", 16)
    whole, sharded = memories
    assert isinstance(sharded, ShardedMemory)
    shared = unit_rows(5, made.dimension, seed=1).float()
    expected = search_memory(shared, whole, k, bridge=made)
    assert [hit.id for hit in search_memory(shared, sharded, k, bridge=made)[0]] == [
        hit.id for hit in expected[0]
    ]
    own = unit_rows(5, whole.dimension, seed=2).float()
    assert search_memory(own, sharded, k) == search_memory(own, whole, k)


def test_processes_find_the_same(made, memories):
    whole, sharded = memories
    shared = unit_rows(5, made.dimension, seed=1).float()
    with Processes(2) as tasks:
        found = search_memory(shared, sharded, 9, bridge=made, tasks=tasks)
        assert found == search_memory(shared, sharded, 9, bridge=made)
        assert search_memory(shared, whole, 9, bridge=made, tasks=tasks) == found


def test_a_bridge_is_trained_to_the_same_bits(world, memories, tmp_path):
    trained = [
        train(world.hub, [leaf, world.leaf[1]], tmp_path / str(i), SHORT, device="cpu", tasks=tasks)
        for i, (leaf, tasks) in enumerate([(memories[0], None), (memories[1], None)])
    ]
    with Processes(1) as tasks:
        leaf = [memories[1], world.leaf[1]]
        trained.append(train(world.hub, leaf, tmp_path / "p", SHORT, device="cpu", tasks=tasks))
    weights = [dict(one.projectors["left"].state_dict()) for one in trained]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in weights[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stream": "never"}, "stream is 'never', which loads them"),
        ({"retrieval": "sparse"}, "retrieval is 'sparse': choose --retrieval exact"),
        ({"retrieval": "approximate"}, "retrieval is 'approximate'"),
    ],
)
def test_settings_that_leave_nothing_to_divide_are_refused(world, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        train(
            world.hub, world.leaf, tmp_path / "b", replace(SHORT, **change), device="cpu",
            tasks=InTurn(),
        )  # fmt: skip
