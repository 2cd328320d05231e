"""Leaf memories on the disk: the same bridge as from the device, or a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from bridge.config import TrainSettings
from bridge.methods.routing import posteriors
from bridge.pseudo_pairs.exact import retrieve
from bridge.pseudo_pairs.retriever import retriever
from bridge.training import leaf_rows as module
from bridge.training.leaf_rows import in_blocks, leaf_rows, mean_of
from bridge.training.resemblance import shared_directions
from bridge.training.train import train
from bridge.tuning import tune
from features.errors import UserError
from features.memories.streamed_rows import StreamedRows
from features.memories.writing import save_memory
from tests.bridge.conftest import MIXTURE, SETTINGS, unit, write_items

CPU = torch.device("cpu")
SHORT = replace(SETTINGS, epochs=2)
CLOSED = TrainSettings(method="cca", dimension=8)


def clustered(n: int, seed: int, width: int = 48) -> np.ndarray:
    """Unit rows around 20 centres, as float16 keeps them."""
    centres = np.random.default_rng(9).normal(size=(20, width))
    rng = np.random.default_rng(seed)
    return unit(centres[rng.integers(20, size=n)] + 0.5 * rng.normal(size=(n, width)))


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> StreamedRows:
    """Two files, of more than one block."""
    folder = tmp_path_factory.mktemp("large")
    return StreamedRows(
        [
            save_memory(folder / f"{n}.h5", clustered(n, n).astype("f2"), range(n), space="s",
                        modality="image")
            for n in (5000, 4321)
        ]
    )  # fmt: skip


@pytest.fixture
def queries() -> torch.Tensor:
    return torch.from_numpy(clustered(300, 1))


@pytest.mark.parametrize("temperature", [1e-3, 0.01, 1.0, 100.0])
def test_retrieval_from_a_file_is_that_from_its_tensor_to_the_bit(large, queries, temperature):
    (found,) = retrieve(queries, large, temperature=temperature, query_block=128, key_block=1000)
    (held,) = retrieve(queries, large[:], temperature=temperature, query_block=128, key_block=1000)
    assert torch.equal(found, held)
    rows = large[:].double()
    naive = normalize(torch.softmax(queries.double() @ rows.T / temperature, dim=1) @ rows, dim=-1)
    assert float((1 - (found * naive).sum(dim=1)).max()) < 1e-6


def test_a_file_is_read_once_for_all_queries(large, queries, monkeypatch):
    seen: list[tuple[int, int]] = []
    true = StreamedRows.__getitem__

    def watched(self, rows):
        seen.append((rows.start, rows.stop))
        return true(self, rows)

    monkeypatch.setattr(StreamedRows, "__getitem__", watched)
    done: list[int] = []
    retrieve(queries, large, (large,), temperature=0.01, query_block=32, advance=done.append)
    assert [start for start, _ in seen] == [0, 4096, 8192]
    assert len(done) == 3
    assert sum(done) == 300


def test_sparse_retrieval_of_files_is_refused_and_auto_takes_all_items(large, queries):
    with pytest.raises(UserError, match="a memory is read from disk: choose --retrieval auto"):
        retriever("sparse")(queries, large, (large,), temperature=0.01)
    many = queries.repeat(-(-1024 // len(queries)), 1)
    (found,) = retriever("auto")(many, large, (large,), temperature=0.01)
    torch.testing.assert_close(found, retrieve(many, large, temperature=0.01)[0])


@pytest.mark.parametrize("temperature", [1e-3, 0.01, 10.0])
@pytest.mark.parametrize("kept", [1, 64, 20_000])
def test_posteriors_over_a_file_are_those_over_its_tensor(large, queries, temperature, kept):
    found = posteriors(queries, large, temperature=temperature, kept=kept)
    held = posteriors(queries, large[:], temperature=temperature, kept=kept)
    torch.testing.assert_close(found.probability, held.probability, rtol=1e-3, atol=1e-6)
    # Which of equal items is kept is free; what is kept has the probability that is told.
    logits = queries.double() @ large[:].double().T / temperature
    exact = torch.softmax(logits, dim=1).gather(1, found.hub)
    torch.testing.assert_close(found.probability.double(), exact, rtol=1e-2, atol=1e-6)


def test_means_and_directions_are_those_of_the_tensor(large, queries):
    torch.testing.assert_close(mean_of(large), mean_of(large[:]), rtol=0, atol=1e-6)
    assert torch.equal(torch.cat(list(in_blocks(large))), large[:])
    share, held = (shared_directions(queries, rows) for rows in (large, large[:]))
    assert share == pytest.approx(held, abs=1e-5)


def test_memories_that_do_not_fit_stay_on_the_disk_the_largest_first(world, monkeypatch):
    leaf = {"left": [world.leaf[0]], "right": [world.leaf[1]], "none": []}  # 3,072 and 2,240 bytes
    for free, streamed in (
        (2 * (3072 + 2240), []),
        (2 * (3072 + 2240) - 2, ["left"]),
        (2 * 2240, ["left"]),
        (2 * 2240 - 2, ["left", "right"]),
        (0, ["left", "right"]),
    ):
        monkeypatch.setattr(module, "free_bytes", lambda _, free=free: free)
        rows = leaf_rows(leaf, CPU, "auto")
        assert list(rows) == ["left", "right"]
        assert [space for space in rows if isinstance(rows[space], StreamedRows)] == streamed
        for space, one in rows.items():
            assert torch.equal(one[:], leaf[space][0].tensor())
    assert not any(isinstance(one, StreamedRows) for one in leaf_rows(leaf, CPU, "never").values())


@pytest.mark.parametrize(
    "settings",
    [
        SHORT,
        replace(SHORT, centring="modality", start="ridge", projector="linear"),
        replace(SHORT, objective="cwcl", ensemble=2),
        CLOSED,
        TrainSettings(method="routing"),
        MIXTURE,
    ],
    ids=["cmcr", "centred", "cwcl", "cca", "routing", "mixture"],
)
def test_the_bridge_is_the_same_from_the_disk_and_from_memory(world, tmp_path, settings):
    parts = [
        write_items(tmp_path / f"{start}.h5", "left", "audio", range(start, start + 32))
        for start in (200, 232)
    ]
    leaf = [*parts, world.leaf[1]]
    made = [
        train(world.hub, leaf, tmp_path / stream, replace(settings, stream=stream), device="cpu")
        for stream in ("always", "never")
    ]
    for memory in world.test:
        one, other = (
            bridge.project(memory.tensor(), memory.space, memory.modality) for bridge in made
        )
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4)
    for name, value in made[0].metrics.items():
        assert value == pytest.approx(made[1].metrics[name], rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize(
    ("settings", "needs", "remedy"),
    [
        (
            replace(SHORT, pseudo_pairs="leaf"),
            "pseudo_pairs 'leaf' draws batches from its rows",
            "set pseudo_pairs to hub",
        ),
        (
            replace(SHORT, pseudo_pairs="all"),
            "pseudo_pairs 'all' draws batches from its rows",
            "set pseudo_pairs to hub",
        ),
        (
            replace(SHORT, pseudo_pairs="each"),
            "pseudo_pairs 'each' draws batches from its rows",
            "set pseudo_pairs to hub",
        ),
        (
            replace(MIXTURE, pseudo_pairs="each"),
            "pseudo_pairs 'each' draws batches from its rows",
            "set pseudo_pairs to hub",
        ),
        (
            replace(SHORT, objective="distil"),
            "the objective distil draws batches from its rows",
            "choose the objective cmcr",
        ),
        (
            replace(SHORT, retrieval="sparse"),
            "retrieval 'sparse' needs all of it at hand",
            "set retrieval to auto",
        ),
        (
            replace(SHORT, objective="tcl"),
            "the objective tcl draws batches from its rows",
            "choose the objective cmcr",
        ),
    ],
    ids=["leaf", "all", "each", "mixture", "distil", "sparse", "tcl"],
)
def test_what_needs_a_leaf_in_memory_is_refused_with_one_on_the_disk(
    world, tmp_path, settings, needs, remedy
):
    settings = replace(settings, stream="always")
    with pytest.raises(UserError) as caught:
        train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu")
    assert str(caught.value) == (
        f"the leaf memory {world.leaf[0].path} would take 3.07e-06 GB of the device and is left "
        f"on the disk (stream is 'always'), but {needs}: load it all the same "
        f"with --stream never, or {remedy}"
    )
    train(world.hub, world.leaf, tmp_path / "out", replace(settings, stream="never"), device="cpu")


def test_tuning_refuses_batches_from_a_leaf_on_the_disk(world, tmp_path):
    settings = replace(SHORT, pseudo_pairs="leaf", stream="always")
    with pytest.raises(UserError, match=r"left on the disk .*pseudo_pairs 'leaf' draws batches"):
        tune(world.hub, world.leaf, tmp_path / "out.toml", settings, device="cpu")


def test_a_foreign_leaf_on_the_disk_is_refused_as_one_in_memory(tmp_path):
    hub = [
        save_memory(tmp_path / f"{space}.h5", clustered(60, seed), range(60), space=space,
                    modality="text")
        for seed, space in enumerate(("left", "right"))
    ]  # fmt: skip
    rng = np.random.default_rng(3)
    turned = np.linalg.qr(rng.normal(size=(48, 48)))[0][:, :6]
    rows = unit(rng.normal(size=(5000, 6)) @ turned.T + 0.01 * rng.normal(size=(5000, 48)))
    leaf = save_memory(tmp_path / "leaf.h5", rows, range(5000), space="left", modality="audio")
    told = []
    for stream in ("always", "never"):
        with pytest.raises(UserError, match="would be noise") as caught:
            train(hub, [leaf], tmp_path / "out", replace(SHORT, stream=stream), device="cpu")
        told.append(str(caught.value))
    assert told[0] == told[1]
