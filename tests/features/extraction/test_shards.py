"""Shards, in whatever order they were made, become the memory of one run; merging loses nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import UserError
from features.extraction.extract import Extraction, extract
from features.extraction.items import Item, Source
from features.extraction.shards import Shard, shards_beside
from features.extraction.sources import read_source
from features.memories.memory import Memory
from features.memories.merging import merge
from features.memories.writing import save_memory
from tests.features.helpers import FakeEncoder, StopAfter, files_of, unit_rows, write_images

VALUES = [f"{'bad ' if i % 5 == 3 else ''}sentence {i}" for i in range(40)]
SOURCE = Source(
    [Item(f"id {i}", v, f"class {i % 3}", (str(i), v[:1])) for i, v in enumerate(VALUES)],
    None,
    columns=["number", "letter"],
)


def _run(out: Path, shard: Shard | None = None, **options: Any) -> Extraction:
    options = {"source": SOURCE, "batch_size": 3, "encoder": FakeEncoder(), **options}
    source, encoder = options.pop("source"), options.pop("encoder")
    return extract(source, encoder, "text", out, shard=shard, **options)


def _merge(out: Path, **options: Any) -> Memory:
    return merge([Memory(path) for path in shards_beside(out)], out, **options)[0]


@given(st.integers(0, 200), st.integers(1, 12), st.integers(1, 20))
def test_every_item_is_in_one_shard_and_shards_are_whole_batches(
    items: int, size: int, of: int
) -> None:
    parts = [Shard(number, of).rows(items, size) for number in range(1, of + 1)]
    assert [row for part in parts for row in range(items)[part]] == list(range(items))
    assert all(part.start % size == 0 for part in parts if range(items)[part])
    batches = [-(-len(range(items)[part]) // size) for part in parts]
    assert max(batches) - min(batches) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_shards_in_random_order_some_of_them_stopped_are_one_run(tmp_path: Path, seed: int) -> None:
    (tmp_path / "whole").mkdir()
    whole = _run(tmp_path / "whole/m.h5")
    out = tmp_path / "shards/m.h5"
    out.parent.mkdir()
    order = random.Random(seed).sample(range(1, 8), 7)
    for place, number in enumerate(order):
        shard = Shard(number, 7)
        if place in (2, 5):
            with pytest.raises(KeyboardInterrupt):
                _run(out, shard, progress=StopAfter(1))
            assert _run(out, shard).resumed_from == 3
        else:
            _run(out, shard)
    before = files_of(out.parent)
    again = _run(out, Shard(order[0], 7), encoder=FakeEncoder(stop_after=0))  # it is kept
    assert again.resumed_from == len(again.memory) + len(again.failures)
    assert files_of(out.parent) == before
    made = _merge(out)
    made.verify()
    expected = files_of(tmp_path / "whole")
    assert {name: files_of(out.parent)[name] for name in expected} == expected
    assert len(whole.failures) == 8
    # The merged memory is the finished output of the same command.
    assert _run(out, resume=True).resumed_from == len(VALUES)


def test_a_shard_may_be_empty_or_fail_altogether(tmp_path: Path) -> None:
    values = ["one", "two", "bad three", "bad four", "five"]
    source = Source([Item(v, v) for v in values], None)
    out = tmp_path / "m.h5"
    sizes = []
    for number in range(1, 5):
        done = _run(out, Shard(number, 4), source=source, batch_size=2)
        sizes.append((len(done.memory), len(done.failures)))
    assert sorted(sizes) == [(0, 0), (0, 2), (1, 0), (2, 0)]
    assert list(_merge(out).ids) == ["one", "two", "five"]
    failures = (tmp_path / "m.failures.jsonl").read_text().splitlines()
    assert ["three" in failures[0], "four" in failures[1], len(failures)] == [True, True, 2]


def test_nothing_at_all_is_no_memory(tmp_path: Path) -> None:
    source = Source([Item("bad", "bad")], None)
    _run(tmp_path / "m.h5", Shard(1, 1), source=source)
    with pytest.raises(UserError, match="a memory needs at least one item"):
        _merge(tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_pictures_with_parts_and_their_files(tmp_path: Path) -> None:
    from features.encoders import load_encoder

    source = read_source(str(write_images(tmp_path / "pictures", 9)), "image")
    options: dict[str, Any] = {
        "source": source, "encoder": load_encoder("mini-clip"), "batch_size": 2, "local": True,
    }  # fmt: skip
    whole = extract(
        source, options["encoder"], "image", tmp_path / "whole.h5", batch_size=2, local=True
    )
    for number in (2, 1):
        shard = Shard(number, 2)
        extract(
            source, options["encoder"], "image", tmp_path / "m.h5", batch_size=2, local=True,
            shard=shard,
        )  # fmt: skip
    made = _merge(tmp_path / "m.h5")
    assert made.path.read_bytes() == whole.memory.path.read_bytes()


def _shards(folder: Path, of: int = 3) -> Path:
    for number in range(1, of + 1):
        _run(folder / "m.h5", Shard(number, of))
    return folder / "m.h5"


def test_missing_shards_are_named(tmp_path: Path) -> None:
    out = _shards(tmp_path)
    (tmp_path / "m.2-of-3.h5").unlink()
    with pytest.raises(UserError, match=r"1 of 3 shards are missing \(2\): run .* --shard 2/3"):
        _merge(out)


def test_a_shard_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    _shards(tmp_path)
    memories = [Memory(tmp_path / f"m.{i}-of-3.h5") for i in (1, 2, 2)]
    with pytest.raises(UserError, match="shard 2 of 3 is there twice"):
        merge(memories, tmp_path / "out.h5")


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"encoder": FakeEncoder(weights="v")}])
def test_shards_of_different_runs_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    out = _shards(tmp_path)
    (tmp_path / "m.2-of-3.h5").unlink()
    _run(out, Shard(2, 3), **change)
    with pytest.raises(UserError, match="are shards of different extractions"):
        _merge(out)


def test_a_shard_that_was_damaged_is_noticed_and_nothing_is_written(tmp_path: Path) -> None:
    out = _shards(tmp_path)
    with h5py.File(tmp_path / "m.2-of-3.h5", "r+") as file:
        file["embeddings"][0, 0] += np.float16(0.0005)
    with pytest.raises(UserError, match=r"m\.2-of-3\.h5 is damaged"):
        _merge(out)
    assert not out.exists()


def test_shards_and_others_are_not_mixed(tmp_path: Path) -> None:
    _shards(tmp_path)
    other = save_memory(
        tmp_path / "o.h5", unit_rows(2, 8), ["a", "b"], space="fake", modality="text"
    )
    with pytest.raises(UserError, match=r"is a shard and .* is not"):
        merge([Memory(tmp_path / "m.1-of-3.h5"), other], tmp_path / "out.h5")


def _saved(path: Path, ids: list[str], **options: Any) -> Memory:
    options = {"space": "s", "modality": "text", **options}
    rows = unit_rows(len(ids), options.pop("width", 8), seed=len(ids))
    return save_memory(path, rows, ids, **options)


def test_other_memories_are_joined_in_their_order(tmp_path: Path) -> None:
    one = _saved(tmp_path / "1.h5", ["a", "b"], labels=["x", "y"], metadata={"n": [1, 2]})
    two = _saved(tmp_path / "2.h5", ["c"], labels=["z"], metadata={"n": [3]})
    made, _ = merge([two, one], tmp_path / "m.h5")
    assert list(made.ids) == ["c", "a", "b"]
    assert list(made.labels or ()) == ["z", "x", "y"]
    assert list(made.metadata["n"]) == ["3", "1", "2"]
    assert np.array_equal(made.embeddings, np.concatenate([two.embeddings, one.embeddings]))
    made.verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "t"}, "has space s and .* has space t"),
        ({"modality": "image"}, "has modality text and"),
        ({"width": 9}, "has dimension 8 and .* has dimension 9"),
        ({"metadata": {"n": [1]}}, r"has columns \[\] and .* has columns \['n'\]"),
        ({"encoder": {"name": "e", "weights": "1"}}, ""),
    ],
)
def test_memories_that_do_not_fit_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    encoder = {"encoder": {"name": "e", "weights": "0"}} if "encoder" in change else {}
    one = _saved(tmp_path / "1.h5", ["a", "b"], **encoder)
    two = _saved(tmp_path / "2.h5", ["c"], **change)
    with pytest.raises(UserError, match=message or "are of different encoders"):
        merge([one, two], tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_an_id_of_both_is_refused(tmp_path: Path) -> None:
    memories = [_saved(tmp_path / "1.h5", ["a", "b"]), _saved(tmp_path / "2.h5", ["b"])]
    with pytest.raises(UserError, match="the id 'b' appears twice"):
        merge(memories, tmp_path / "m.h5")


def test_files_of_several_folders_keep_their_places(tmp_path: Path) -> None:
    from features.encoders import load_encoder

    memories = []
    for name, count in (("one", 2), ("two/deeper", 3)):
        folder = write_images(tmp_path / name, count)
        for place, file in enumerate(sorted(folder.iterdir())):
            file.rename(folder / f"{name[:3]}-{place}.png")
        source = read_source(str(folder), "image")
        done = extract(source, load_encoder("mini-clip"), "image", tmp_path / f"{count}.h5")
        memories.append(done.memory)
    made, _ = merge(memories, tmp_path / "m.h5")
    for memory, start in zip(memories, (0, 2), strict=True):
        for row in range(len(memory)):
            assert made.item_path(start + row) == memory.item_path(row)
            assert made.ids[start + row] == memory.ids[row]


def test_the_output_is_not_one_of_the_memories(tmp_path: Path) -> None:
    one = _saved(tmp_path / "1.h5", ["a"])
    with pytest.raises(UserError, match="is one of the memories to merge"):
        merge([one], one.path, overwrite=True)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/3"])
def test_what_is_not_a_shard_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is not a shard: write I/N, such as 1/8"):
        Shard.named(text)


def test_projected_memories_stay_projected(tmp_path: Path) -> None:
    from features.memories.memory import Columns, MemoryHeader
    from features.memories.writing import write_memory

    memories = []
    for name, bridge in (("a", "1"), ("b", "1"), ("c", "2")):
        header = MemoryHeader(
            "joined", "image", 8, "float32", extra={"bridge": bridge, "projected_from": "clip"}
        )
        rows = unit_rows(2, 8, seed=len(memories))
        columns = Columns([f"{name}{i}" for i in range(2)])
        memories.append(write_memory(tmp_path / f"{name}.h5", header, columns, [rows]))
    made, _ = merge(memories[:2], tmp_path / "m.h5")
    assert made.header.extra == {"bridge": "1", "projected_from": "clip"}
    with pytest.raises(UserError, match=r"has bridge 1 and .* has bridge 2"):
        merge(memories, tmp_path / "n.h5")
