"""Kept pseudo pairs: the same bits as without, nothing retrieved twice, nothing wrong taken."""

from __future__ import annotations

import ast
import importlib.util
import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge import tuning
from bridge.pseudo_pairs import cache as pseudo_pair_cache
from bridge.pseudo_pairs import retriever as retrieval
from bridge.pseudo_pairs.cache import CODE, PseudoPairsNotKept, kept_pairs, pairs_folder
from bridge.training.run import Run
from bridge.training.train import train
from bridge.training.training_set import build_training_set, check_memories, load_rows
from bridge.tuning import tune
from features.memories.memory import Memory
from tests.bridge.conftest import MIXTURE, SETTINGS, InterruptAfter, World, write_items

CPU = torch.device("cpu")
SHORT = replace(SETTINGS, epochs=2)
Rows = dict[str, dict[str, Tensor]]


@pytest.fixture
def own(tmp_path: Path) -> World:
    """Memories in a folder of this test alone."""
    return World(
        tmp_path,
        hub=(
            write_items(tmp_path / "text-left.h5", "left", "text", range(100)),
            write_items(tmp_path / "text-right.h5", "right", "text", range(100)),
        ),
        leaf=(
            write_items(tmp_path / "audio.h5", "left", "audio", range(200, 264)),
            write_items(tmp_path / "image.h5", "right", "image", range(300, 356)),
        ),
        test=(),  # type: ignore[arg-type]
    )


@pytest.fixture(autouse=True)
def _everything_is_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudo_pair_cache, "LEAST_SCORES", 1)


@pytest.fixture
def retrieved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of queries of every retrieval that was computed."""
    counts: list[int] = []
    true = retrieval.retrieve

    def counted(queries: Tensor, *args: Any, **more: Any) -> tuple[Tensor, ...]:
        counts.append(len(queries))
        return true(queries, *args, **more)

    monkeypatch.setattr(retrieval, "retrieve", counted)
    return counts


def built(world: World, *, cache: bool = True, **changes: Any) -> Rows:
    settings = replace(SETTINGS, **changes)
    frozen = load_rows(
        check_memories(world.hub, world.leaf),
        holdout=settings.holdout, seed=settings.seed, device=CPU, cache=cache,
    )  # fmt: skip
    return build_training_set(frozen, settings).rows


def same(one: Rows, other: Rows) -> bool:
    return all(
        torch.equal(rows, other[space][role])
        for space, roles in one.items()
        for role, rows in roles.items()
    )


def files(world: World) -> list[Path]:
    return [path for memory in world.leaf for path in kept_pairs(memory.path)]


@pytest.mark.parametrize(("kind", "computed"), [("hub", 2), ("leaf", 4), ("all", 6)])
def test_the_second_training_set_is_the_same_and_nothing_is_retrieved(
    own, retrieved, kind, computed
):
    plain = built(own, cache=False, pseudo_pairs=kind)
    assert files(own) == []
    retrieved.clear()
    first = built(own, pseudo_pairs=kind)
    assert len(retrieved) == len(files(own)) == computed
    second = built(own, pseudo_pairs=kind)
    assert len(retrieved) == computed
    assert same(plain, first)
    assert same(plain, second)


@pytest.mark.parametrize("settings", [SHORT, replace(MIXTURE, epochs=1)], ids=["one", "mixture"])
def test_bridges_have_the_same_bits_with_and_without(own, tmp_path, retrieved, settings):
    prints = []
    for name, cache in (("without", False), ("first", True), ("second", True)):
        retrieved.clear()
        made = train(own.hub, own.leaf, tmp_path / name, settings, cache=cache, device="cpu")
        prints.append(made.fingerprint)
    assert len(set(prints)) == 1
    assert retrieved == []


def test_a_mixture_retrieves_once_for_all_of_its_parts_and_folds(own, tmp_path, retrieved):
    train(own.hub, own.leaf, tmp_path / "without", MIXTURE, cache=False, device="cpu")
    without = len(retrieved)
    retrieved.clear()
    train(own.hub, own.leaf, tmp_path / "with", MIXTURE, device="cpu")
    assert len(retrieved) < without
    assert len(retrieved) == len(files(own))


def test_tuning_finds_the_same_and_retrieves_once_a_fold(own, tmp_path, retrieved, monkeypatch):
    monkeypatch.setattr(tuning, "NOISE_VARIANCES", (0.0,))
    monkeypatch.setattr(tuning, "TEMPERATURES", (0.05,))
    settings = replace(SHORT, epochs=1)
    found = []
    for cache in (False, True):
        retrieved.clear()
        out = tmp_path / f"{cache}.toml"
        made = tune(own.hub, own.leaf, out, settings, cache=cache, device="cpu")
        found.append([(trial.name, trial.cross_entropy) for trial in made.trials])
    assert found[0] == found[1]
    assert len(retrieved) == len(files(own)) == 2 * 5


def test_a_training_that_is_resumed_retrieves_nothing_and_ends_with_the_same_bits(
    own, tmp_path, retrieved, monkeypatch
):
    monkeypatch.setattr("bridge.training.run.CHECKPOINT_SECONDS", 0.0)
    settings = replace(SETTINGS, epochs=4)
    whole = train(own.hub, own.leaf, tmp_path / "whole", settings, cache=False, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(
            own.hub, own.leaf, tmp_path / "cut", settings, device="cpu", progress=InterruptAfter(2)
        )
    retrieved.clear()
    resumed = train(own.hub, own.leaf, tmp_path / "cut", settings, device="cpu")
    assert retrieved == []
    assert resumed.fingerprint == whole.fingerprint


def test_training_does_not_change_what_is_kept(own):
    settings = replace(SHORT, centring="modality")
    frozen = load_rows(
        check_memories(own.hub, own.leaf), holdout=0.0, seed=0, device=CPU, cache=True
    )
    before = build_training_set(frozen, settings)
    content = [path.read_bytes() for path in files(own)]
    again = build_training_set(frozen, settings)
    Run(None, settings, again, {}, CPU)  # centres its tables
    assert not same(before.rows, again.rows)
    assert [path.read_bytes() for path in files(own)] == content
    assert same(build_training_set(frozen, settings).rows, before.rows)


@pytest.mark.parametrize(
    ("changes", "computed"),
    [
        ({"retrieval_temperature": 0.02}, 2),
        ({"retrieval": "exact"}, 2),
        ({"seed": 1}, 2),  # other hub items are held out
        ({"holdout": 0.0}, 2),
        ({"epochs": 3, "noise_variance": 0.1, "projector": "linear"}, 0),
    ],
)
def test_what_pairs_depend_on_and_nothing_else_makes_others(own, retrieved, changes, computed):
    built(own)
    retrieved.clear()
    assert same(built(own, **changes), built(own, cache=False, **changes))
    assert len(retrieved) == 2 + computed


def changed_hub(world: World) -> World:
    other = write_items(world.folder / "other.h5", "left", "text", range(1, 101),
                        ids=list(world.hub[0].ids))  # fmt: skip
    return replace(world, hub=(other, world.hub[1]))


def shuffled_hub(world: World) -> World:
    """The same memories in another role: ids in the order of the other one."""
    order = [*range(50, 100), *range(50)]
    return replace(
        world, hub=(write_items(world.folder / "s.h5", "left", "text", order), world.hub[1])
    )


def more_leaves(world: World) -> World:
    more = write_items(world.folder / "more.h5", "left", "audio", range(264, 280))
    return replace(world, leaf=(world.leaf[0], more, world.leaf[1]))  # type: ignore[arg-type]


def changed_leaf(world: World) -> World:
    path = world.leaf[0].path
    path.unlink()
    return replace(world, leaf=(write_items(path, "left", "audio", range(210, 264)), world.leaf[1]))


@pytest.mark.parametrize(
    ("change", "computed"),
    [(changed_hub, 1), (shuffled_hub, 2), (more_leaves, 1), (changed_leaf, 1)],
)
@pytest.mark.filterwarnings("ignore::bridge.pseudo_pairs.cache.PseudoPairsNotKept")
def test_other_memories_have_pairs_of_their_own(own, retrieved, change, computed):
    built(own)
    other = change(own)
    retrieved.clear()
    found = built(other)
    assert len(retrieved) == computed
    assert same(found, built(other, cache=False))


def another_thread_count() -> None:
    torch.set_num_threads(torch.get_num_threads() + 1)


def other_products() -> None:
    torch.set_float32_matmul_precision("medium")


@pytest.mark.parametrize("change", [another_thread_count, other_products])
def test_what_changes_the_order_of_sums_makes_other_pairs(own, retrieved, change):
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    built(own)
    retrieved.clear()
    try:
        change()
        built(own)
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
    assert len(retrieved) == 2


def test_other_code_makes_other_pairs(own, retrieved, monkeypatch):
    built(own)
    retrieved.clear()
    monkeypatch.setattr(pseudo_pair_cache, "_code", lambda: "of another version")
    built(own)
    assert len(retrieved) == 2


def imports_of(name: str) -> Iterator[str]:
    """Modules of this project that a module needs, itself among them."""
    known = importlib.util.find_spec(name)
    if known is None or known.origin is None:
        return
    yield name
    for node in ast.parse(Path(known.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("bridge.", "features.")
        ):
            yield from imports_of(str(node.module))


def test_the_code_that_pairs_are_known_by_is_all_that_retrieval_needs():
    names = (
        "apart", "errors", "files", "hdf5", "hdf5_files", "memories.container", "memories.reading",
        "memories.sealing", "memories.strings", "parsing", "room", "space", "suggest", "sums",
    )  # fmt: skip
    no_numbers = {f"features.{name}" for name in names}
    assert set(imports_of("bridge.pseudo_pairs.retriever")) - no_numbers <= set(CODE)
    assert all(importlib.util.find_spec(name) is not None for name in CODE)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


def exchanged(path: Path) -> None:
    """Whole, but of other pairs."""
    other = next(one for one in kept_pairs(path.parent.with_suffix("")) if one != path)
    shutil.copy(other, path)


@pytest.mark.parametrize("harm", [cut, flipped, emptied, garbled, exchanged])
def test_damaged_files_are_noticed_told_and_made_again(own, retrieved, harm):
    right = built(own)
    built(own, retrieval_temperature=0.5)
    place = 0 if same_pairs(files(own)[0], right) else 1
    path = files(own)[place]
    whole = path.read_bytes()
    harm(path)
    retrieved.clear()
    with pytest.warns(PseudoPairsNotKept, match="its pairs are made again") as told:
        assert same(built(own), right)
    assert len(told) == len(retrieved) == 1
    assert path.read_bytes() == whole
    assert same(built(own), right)
    assert len(retrieved) == 1


def same_pairs(path: Path, rows: Rows) -> bool:
    return rows["left"]["leaf"].numpy().tobytes() in path.read_bytes()


def test_a_folder_that_may_not_be_written_is_told_once_a_memory(own, retrieved, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    plain = built(own, cache=False)
    for _ in range(2):
        retrieved.clear()
        with pytest.warns(PseudoPairsNotKept) as told:
            assert same(built(own), plain)
        assert len(retrieved) == 2
        assert [str(one.message) for one in told] == [
            f"pseudo pairs are not kept: {pairs_folder(memory.path)} may not be written"
            for memory in own.leaf
        ]
    assert files(own) == []


def test_a_full_disk_is_told(own, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.warns(PseudoPairsNotKept, match="not kept: the disk is full"):
        built(own)
    assert files(own) == []


def test_a_file_in_place_of_the_folder_is_told(own):
    pairs_folder(own.leaf[0].path).write_text("mine")
    with pytest.warns(PseudoPairsNotKept, match="not kept"):
        built(own)
    assert pairs_folder(own.leaf[0].path).read_text() == "mine"


def test_small_sets_leave_no_files(own, monkeypatch):
    monkeypatch.setattr(pseudo_pair_cache, "LEAST_SCORES", 80 * 64)
    built(own)
    assert [len(kept_pairs(memory.path)) for memory in own.leaf] == [1, 0]


def test_what_was_not_used_for_longest_makes_room(own, monkeypatch):
    for number, temperature in enumerate((0.1, 0.2, 0.3)):
        built(own, retrieval_temperature=temperature)
        for path in kept_pairs(own.leaf[0].path)[: number + 1]:
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100))
    built(own, retrieval_temperature=0.1)  # used again
    path = kept_pairs(own.leaf[0].path)[0]
    monkeypatch.setattr(pseudo_pair_cache, "MOST_BYTES", int(2.5 * path.stat().st_size))
    with pytest.warns(PseudoPairsNotKept, match=r"2 sets of pseudo pairs .* were removed"):
        built(own, retrieval_temperature=0.4)
    assert len(kept_pairs(own.leaf[0].path)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built(own, retrieval_temperature=0.1)
        built(own, retrieval_temperature=0.4)


def test_the_newest_set_is_kept_however_large_it_is(own, monkeypatch):
    monkeypatch.setattr(pseudo_pair_cache, "MOST_BYTES", 1)
    built(own)
    assert len(files(own)) == 2


def test_pairs_of_an_earlier_memory_are_removed_with_unfinished_files(own):
    built(own)
    folder = pairs_folder(own.leaf[0].path)
    old, new = folder / ".old.tmp", folder / ".new.tmp"
    for path, age in ((old, 1e6), (new, 10.0)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    before = kept_pairs(own.leaf[0].path)
    with pytest.warns(PseudoPairsNotKept, match="1 sets of pseudo pairs"):
        built(changed_leaf(own))
    after = kept_pairs(own.leaf[0].path)
    assert len(after) == 1
    assert after != before
    assert new.exists()
    assert not old.exists()


def _build(paths: tuple[list[Path], list[Path]], barrier: Any, answers: Any) -> None:
    pseudo_pair_cache.LEAST_SCORES = 1
    torch.set_num_threads(1)
    memories = [[Memory(path) for path in one] for one in paths]
    frozen = load_rows(
        check_memories(*memories), holdout=0.2, seed=0, device=CPU, cache=True
    )  # fmt: skip
    barrier.wait(60)
    rows = build_training_set(frozen, SETTINGS).rows
    answers.put([rows[space]["leaf"].numpy().tobytes() for space in ("left", "right")])


def test_processes_may_write_the_same_pairs_at_once(own):
    right = built(own, cache=False)
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(3), context.Queue()
    paths = [one.path for one in own.hub], [one.path for one in own.leaf]
    started = [context.Process(target=_build, args=(paths, barrier, answers)) for _ in range(3)]
    for process in started:
        process.start()
    found = [answers.get(timeout=60) for _ in started]
    for process in started:
        process.join(60)
    assert found == [[right[space]["leaf"].numpy().tobytes() for space in ("left", "right")]] * 3
    left: Callable[[Memory], list[Path]] = lambda one: list(pairs_folder(one.path).iterdir())  # noqa: E731
    assert [len(left(memory)) for memory in own.leaf] == [1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(built(own), right)
