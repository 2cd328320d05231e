"""Shards that are not merged read as the memory that they would be merged to."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from features.errors import UserError
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.merging import merge
from features.memories.row_parts import file_parts, row_parts
from features.memories.sharded import ShardedMemory, open_memories, open_memory
from features.memories.streamed_rows import StreamedRows
from features.memories.writing import save_memory, write_memory
from tests.features.helpers import unit_rows
from tests.features.shards import write_shards

N, WIDTH = 50, 8
CUTS = [0, 7, 7, 20, 21, 40, 50]  # eight shards: the first, third and last are empty


@pytest.fixture
def whole(tmp_path) -> Memory:
    """Items, labels, metadata and parts, of which a shard has its own."""
    header = MemoryHeader("s", "image", WIDTH, "float16", root=str(tmp_path), local_length=2)
    columns = Columns(
        [f"id {i}" for i in range(N)],
        [f"picture {i}.png" for i in range(N)],
        [str(i % 3) for i in range(N)],
        {"said": ["" if i % 2 else f"über {i}" for i in range(N)]},
    )
    local = np.stack([unit_rows(N, WIDTH, seed=1), np.zeros((N, WIDTH), "f4")], axis=1)
    mask = np.tile(np.array([1, 0], np.uint8), (N, 1))
    rows = unit_rows(N, WIDTH, seed=0)
    return write_memory(tmp_path / "whole.h5", header, columns, [rows], local=[(local, mask)])


@pytest.fixture(autouse=True)
def shards(tmp_path, whole) -> list[Memory]:
    return write_shards(tmp_path, whole, CUTS)


def test_everything_is_as_in_the_memory(tmp_path, whole, shards):
    found = open_memory(tmp_path / "m.h5")
    assert isinstance(found, ShardedMemory)
    assert (found.path, len(found), found.parts) == (tmp_path / "m.h5", N, found.shards)
    assert len(found.shards) == len(shards) == 8
    for name in ("ids", "items", "labels"):
        assert list(getattr(found, name)) == list(getattr(whole, name))
        assert getattr(found, name)[33] == getattr(whole, name)[33]
        assert getattr(found, name)[-5:2:-9] == getattr(whole, name)[-5:2:-9]
    assert list(found.metadata["said"]) == list(whole.metadata["said"])
    assert found.item_path(44) == whole.item_path(44)
    assert found.row_of["id 21"] == 21
    assert torch.equal(found.tensor(), whole.tensor())
    some = np.array([49, 0, 7, 20, 7, 39])
    assert np.array_equal(found.rows(some), whole.rows(some))
    assert torch.equal(found.tensor(some), whole.tensor(some))
    for one, other in zip(found.local_tensors(some), whole.local_tensors(some), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(StreamedRows([found])[:], whole.tensor())
    found.verify()


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(0, 7), slice(5, 22), slice(20, 21), slice(8, 8), slice(60, 70),
     slice(3, 49, 5), slice(-3, None)],
    ids=str,
)  # fmt: skip
def test_slices_of_the_stored_rows(tmp_path, whole, rows):
    found = open_memory(tmp_path / "m.h5").embeddings
    assert np.array_equal(found[rows], whole.embeddings[rows])
    assert (found.shape, found.dtype, found.nbytes) == ((N, WIDTH), np.float16, N * WIDTH * 2)


@pytest.mark.parametrize("row", [N, -N - 1])
def test_rows_that_are_not_there_are_an_error(tmp_path, row):
    found = open_memory(tmp_path / "m.h5")
    with pytest.raises(IndexError):
        found.rows(np.array([row]))
    with pytest.raises(IndexError):
        found.ids[row]


def test_what_is_written_of_it_is_what_merging_makes(tmp_path, shards):
    sharded = open_memory(tmp_path / "m.h5")
    made, _ = merge(shards, tmp_path / "merged.h5")
    copied = write_memory(
        tmp_path / "copied.h5", sharded.header, sharded.columns, [np.asarray(sharded.embeddings)],
        local=[(np.asarray(sharded.local), np.asarray(sharded.local_mask))],
    )  # fmt: skip
    assert copied.path.read_bytes() == made.path.read_bytes()


def test_it_travels_as_its_paths_and_keeps_its_fingerprint(tmp_path, whole):
    found = open_memory(tmp_path / "m.h5")
    again = pickle.loads(pickle.dumps(found))
    assert again.fingerprint == found.fingerprint
    assert list(pickle.loads(pickle.dumps(found.ids))) == list(whole.ids)
    others = write_shards(tmp_path, whole, CUTS[:-1], name="others")
    assert ShardedMemory([one.path for one in others]).fingerprint != found.fingerprint


def test_a_pattern_or_a_list_in_any_order_names_the_same(tmp_path, shards):
    found = open_memory(tmp_path / "m.h5").fingerprint
    assert open_memory(tmp_path / "m.?-of-8.h5").fingerprint == found
    named = [tmp_path / "m.3-of-8.h5", tmp_path / "whole.h5"]
    named += [shard.path for shard in shards if shard.path not in named]
    both = open_memories(named)
    assert [one.fingerprint for one in both] == [found, Memory(tmp_path / "whole.h5").fingerprint]


def test_a_file_goes_before_its_shards_and_one_shard_is_a_memory(tmp_path, shards):
    merge(shards, tmp_path / "m.h5")
    assert not isinstance(open_memory(tmp_path / "m.h5"), ShardedMemory)
    (one,) = open_memories([shards[3].path])
    assert len(one) == 13


@pytest.mark.parametrize(
    ("change", "named", "message"),
    [
        (lambda at: (at / "m.4-of-8.h5").unlink(), ["m.h5"], r"1 of 8 shards are missing \(4\)"),
        (lambda at: (at / "m.4-of-8.h5").unlink(), ["m.*-of-8.h5"], "1 of 8 shards are missing"),
        (None, ["m.4-of-8.h5", "m.5-of-8.h5"], r"6 of 8 shards are missing \(1, 2, 3, 6, 7, 8\)"),
        (None, ["m.h5", "m.h5", "none.h5"], "memory .*none.h5 does not exist"),
        (
            None,
            [*(f"m.{i}-of-8.h5" for i in range(1, 9)), "m.8-of-8.h5"],
            "shard 8 of 8 is there twice",
        ),
        (
            lambda at: write_shards(at, Memory(at / "whole.h5"), [9], plan="other"),
            ["m.h5"],
            "are shards of different extractions",
        ),
        (
            lambda at: write_shards(at, Memory(at / "whole.h5"), [9]),
            ["m.h5"],
            "are shards of different extractions .*number of shards",
        ),
        (None, ["*.h5"], "m.1-of-8.h5 is a shard and .*whole.h5 is not|is not a shard of"),
        (None, ["n.*.h5"], "no file is called .*: name the shards of a memory"),
    ],
)
def test_shards_that_are_not_one_memory_are_refused(tmp_path, change, named, message):
    if change is not None:
        change(tmp_path)
    with pytest.raises(UserError, match=message):
        open_memories([tmp_path / name for name in named])


def test_shards_without_any_item_are_refused(tmp_path, whole):
    made = write_shards(tmp_path, whole, [N], name="e")
    empty = write_shards(tmp_path, made[0], [0], name="f", plan="q")
    write_shards(tmp_path, empty[0], [0], name="g", plan="r")
    with pytest.raises(UserError, match=r"the 2 shards of .* hold no items"):
        open_memory(tmp_path / "g.h5")


@pytest.mark.parametrize("rows", [1, 6, 7, 13, 49, 50, 99])
def test_parts_are_the_same_rows_whatever_the_files(tmp_path, whole, rows):
    sharded = open_memory(tmp_path / "m.h5")
    parts, of_whole = row_parts([sharded], rows), row_parts([whole], rows)
    assert [(one.first, one.count) for one in parts] == [(p.first, p.count) for p in of_whole]
    for one, other in zip(parts, of_whole, strict=True):
        assert np.array_equal(one.stored(), other.stored())
    assert np.array_equal(
        np.concatenate([one.stored() for one in file_parts([sharded])]), whole.embeddings
    )
    assert [one.count for one in file_parts([sharded])] == [7, 13, 1, 19, 10]


def test_a_part_of_a_file_that_was_replaced_is_refused(tmp_path):
    def save(seed: int) -> Memory:
        rows = unit_rows(5, WIDTH, seed=seed)
        return save_memory(
            Path(tmp_path / "a.h5"), rows, range(5), space="s", modality="text", overwrite=True
        )

    (part,) = file_parts([save(1)])
    save(2)
    with pytest.raises(UserError, match="was replaced by another memory"):
        part.stored()
