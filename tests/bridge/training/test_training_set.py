"""How memories become the rows that training draws from, and what does not fit together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from bridge.pseudo_pairs import retriever as retrieval
from bridge.training.train import train
from bridge.training.training_set import build_training_set, check_memories, load_rows
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.bridge.conftest import SETTINGS, World, write_items

CPU = torch.device("cpu")
SHORT = replace(SETTINGS, epochs=2)


def frozen_of(sources, settings=SETTINGS):
    return load_rows(sources, holdout=settings.holdout, seed=settings.seed, device=CPU)


def built(world: World, leaf=None, **changes):
    sources = check_memories(world.hub, world.leaf if leaf is None else leaf)
    settings = replace(SETTINGS, **changes)
    return build_training_set(frozen_of(sources, settings), settings)


def row_set(rows: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in rows}


def test_held_out_items_are_the_same_in_both_spaces_and_not_in_training(world):
    data = built(world)
    assert len(data) == 80
    for space, memory in zip(("left", "right"), world.hub, strict=True):
        held, kept = row_set(data.frozen.held_out[space]), row_set(data.rows[space]["hub"])
        assert (len(held), len(kept)) == (20, 80)
        assert held | kept == row_set(normalize(memory.tensor(), dim=-1))
    rows = [
        [row.numpy().tobytes() for row in normalize(memory.tensor(), dim=-1)]
        for memory in world.hub
    ]
    places = [
        [rows[side].index(row.numpy().tobytes()) for row in data.frozen.held_out[space]]
        for side, space in enumerate(("left", "right"))
    ]
    assert places[0] == places[1]


@pytest.mark.parametrize(("holdout", "held"), [(0.0, 0), (0.01, 0), (0.02, 2), (0.5, 50)])
def test_nothing_is_held_out_where_it_would_be_less_than_two(world, holdout, held):
    data = built(world, holdout=holdout)
    assert (len(data.frozen.held_out["left"]), len(data)) == (held, 100 - held)


def test_the_seed_decides_what_is_held_out(world):
    one, same, other = (row_set(built(world, seed=s).frozen.held_out["left"]) for s in (0, 0, 1))
    assert one == same != other


@pytest.mark.parametrize(
    ("kind", "both", "left_only"),
    [("hub", 80, 80), ("leaf", 64 + 56, 64), ("all", 80 + 64 + 56, 80 + 64)],
)
def test_pseudo_pairs_are_centred_on_hub_leaf_or_all(world, kind, both, left_only):
    data = built(world, pseudo_pairs=kind)
    assert len(data) == both
    for space, width in (("left", 12), ("right", 10)):
        for role in ("hub", "leaf"):
            rows = data.rows[space][role]
            assert rows.shape == (both, width)
            torch.testing.assert_close(rows.norm(dim=1), torch.ones(both))
    one_sided = built(world, world.leaf[:1], pseudo_pairs=kind)
    assert {space: sorted(roles) for space, roles in one_sided.rows.items()} == {
        "left": ["hub", "leaf"],
        "right": ["hub"],
    }
    assert {len(rows) for roles in one_sided.rows.values() for rows in roles.values()} == {
        left_only
    }


def test_hub_centred_pairs_are_the_softmax_average_of_the_leaf(world):
    data = built(world, holdout=0.0)
    hub, leaf = world.hub[0].tensor().double(), world.leaf[0].tensor().double()
    expected = normalize(torch.softmax(hub @ leaf.T / 0.01, dim=1) @ leaf, dim=-1)
    torch.testing.assert_close(data.rows["left"]["leaf"].double(), expected, rtol=0, atol=1e-4)


def test_leaf_centred_rows_hold_the_leaf_itself(world):
    data = built(world, pseudo_pairs="leaf")
    torch.testing.assert_close(data.rows["left"]["leaf"][:64], world.leaf[0].tensor())
    torch.testing.assert_close(data.rows["right"]["leaf"][64:], world.leaf[1].tensor())


def test_a_leaf_of_several_files_is_one_memory(world, tmp_path):
    parts = [
        write_items(tmp_path / f"{start}.h5", "left", "audio", range(start, start + 32))
        for start in (200, 232)
    ]
    whole, joined = built(world), built(world, [*parts, world.leaf[1]])
    torch.testing.assert_close(joined.rows["left"]["leaf"], whole.rows["left"]["leaf"])
    bridge = train(world.hub, [*parts, world.leaf[1]], tmp_path / "out", SHORT, device="cpu")
    assert [m.items for m in bridge.memories] == [100, 100, 32, 32, 56]


def test_hub_ids_in_another_order_are_aligned(world, tmp_path):
    order = np.random.default_rng(0).permutation(100)
    shuffled = write_items(tmp_path / "shuffled.h5", "right", "text", order)
    sources = check_memories([world.hub[0], shuffled], world.leaf)
    assert [shuffled.ids[row] for row in sources.hub_rows[1]] == list(world.hub[0].ids)
    data = build_training_set(frozen_of(sources), SETTINGS)
    torch.testing.assert_close(data.rows["right"]["hub"], built(world).rows["right"]["hub"])


def test_hub_ids_that_differ_are_refused_with_counts_or_aligned_on_request(world, tmp_path):
    other = write_items(tmp_path / "other.h5", "right", "text", range(40, 170))
    with pytest.raises(UserError) as caught:
        check_memories([world.hub[0], other], [])
    assert str(caught.value) == (
        f"60 ids match between the 100 items of {world.hub[0].path} and the 130 of "
        f"{other.path}: pass --align to train on those that match"
    )
    sources = check_memories([world.hub[0], other], [], align=True)
    assert sources.items == 60
    bridge = train([world.hub[0], other], [], tmp_path / "out", SHORT, align=True, device="cpu")
    assert bridge.metrics["epoch"] == 2


@pytest.mark.parametrize("align", [False, True])
def test_hubs_without_a_common_id_are_refused(world, tmp_path, align):
    other = write_items(tmp_path / "other.h5", "right", "text", range(1000, 1100))
    with pytest.raises(
        UserError, match=r"0 ids match .*the same item must have the same id .*--id-column"
    ):
        check_memories([world.hub[0], other], [], align=align)


def test_one_space_twice_or_another_number_of_hubs_is_refused(world):
    for hub in ([], [world.hub[0]], [world.hub[0], world.hub[0]], [*world.hub, world.hub[0]]):
        with pytest.raises(UserError, match="needs two hub memories, of two different spaces"):
            check_memories(hub, [])


def test_hubs_of_different_modalities_are_refused_unless_they_are_true_pairs(world, tmp_path):
    image = write_items(
        tmp_path / "image.h5", "right", "image", range(100), ids=list(world.hub[0].ids)
    )
    with pytest.raises(UserError, match=r"hold text in left and image in right: give one .*--pair"):
        check_memories([world.hub[0], image], [])
    bridge = train([world.hub[0], image], [], tmp_path / "out", SHORT, paired=True, device="cpu")
    assert [m.role for m in bridge.memories] == ["pairs", "pairs"]


def test_a_leaf_of_a_third_space_is_refused(world, tmp_path):
    third = save_memory(
        tmp_path / "third.h5", np.eye(3, dtype="f4"), list("abc"), space="third", modality="audio"
    )
    with pytest.raises(UserError, match=r"third.h5 is of the space third but the hub joins left "):
        check_memories(world.hub, [third])


def test_leaves_of_two_modalities_are_refused(world, tmp_path):
    text = write_items(tmp_path / "text.h5", "left", "text", range(5))
    with pytest.raises(UserError, match=r"audio in left, 12-d.*text in left.*cannot be used as on"):
        check_memories(world.hub, [world.leaf[0], text])


@pytest.mark.parametrize("with_leaf", [True, False])
def test_memories_of_other_encoders_are_refused(world, tmp_path, with_leaf):
    foreign = write_items(tmp_path / "f.h5", "left", "audio", range(5), weights="other weights")
    leaf = [world.leaf[0], foreign] if with_leaf else [foreign]
    with pytest.raises(UserError, match=r"f.h5 and .* have encoders with other weights") as e:
        check_memories(world.hub, leaf)
    assert "weights of left" in e.value.details
    assert check_memories(world.hub, leaf, trust_encoder=True).leaf["left"] == leaf


@pytest.mark.parametrize("kind", ["leaf", "all"])
def test_leaf_centred_pairs_need_a_leaf(world, kind):
    with pytest.raises(UserError, match=f"pseudo_pairs is '{kind}' but no leaf memory is given"):
        built(world, [], pseudo_pairs=kind)


def test_a_leaf_without_items_is_refused(world, tmp_path):
    rows = np.zeros((0, 12), dtype=np.float32)
    with pytest.raises(UserError):  # noqa: PT012 - when it is written or when it is used
        empty = save_memory(tmp_path / "empty.h5", rows, [], space="left", modality="audio")
        check_memories(world.hub, [empty])


@pytest.mark.parametrize("projector", ["mlp2", "mlp1", "linear"])
def test_one_item_is_too_little_to_train_on(world, tmp_path, projector):
    one = write_items(tmp_path / "one.h5", "left", "audio", [1])
    settings = replace(SHORT, pseudo_pairs="leaf", projector=projector)
    with pytest.raises(UserError):
        train(world.hub, [one], tmp_path / "out", settings, device="cpu")


def test_a_hub_alone_can_be_trained(world, tmp_path):
    bridge = train(world.hub, [], tmp_path / "out", SHORT, device="cpu")
    assert set(bridge.metrics) == {"epoch", "inter_hub", "loss", "held_out_r1", "held_out_mrr"}


@pytest.mark.parametrize("side", [0, 1])
def test_one_leaf_alone_can_be_trained(world, tmp_path, side):
    bridge = train(world.hub, [world.leaf[side]], tmp_path / "out", SHORT, device="cpu")
    assert {"inter_hub", "intra"} < set(bridge.metrics)
    assert "inter_leaf" not in bridge.metrics


@pytest.mark.parametrize("kind", ["leaf", "all"])
def test_every_kind_of_pseudo_pair_can_be_trained(world, tmp_path, kind):
    settings = replace(SHORT, pseudo_pairs=kind, centring="hub", projector="mlp1")
    bridge = train(world.hub, world.leaf, tmp_path / "out", settings, device="cpu")
    assert {"inter_hub", "inter_leaf", "intra"} < set(bridge.metrics)
    assert float(bridge.projectors["left"].offset.norm()) > 0.01


def test_nothing_to_train_is_refused(world, tmp_path):
    settings = replace(SHORT, inter_hub_weight=0.0, inter_leaf_weight=1.0, intra_weight=1.0)
    with pytest.raises(UserError, match="weights of all terms that the memories allow are zero"):
        train(world.hub, [], tmp_path / "out", settings, device="cpu")


def test_memories_are_only_read(world, tmp_path):
    before = [Memory(m.path).path.read_bytes() for m in (*world.hub, *world.leaf)]
    train(world.hub, world.leaf, tmp_path / "out", SHORT, device="cpu")
    assert [m.path.read_bytes() for m in (*world.hub, *world.leaf)] == before


def test_a_leaf_of_the_hubs_modality_is_refused(world):
    with pytest.raises(UserError, match=r"holds text, as the hub memory .* does"):
        check_memories(world.hub, [world.hub[0]])


@pytest.mark.parametrize("kind", ["hub", "leaf", "all"])
def test_sparse_retrieval_gives_the_same_pairs(world, kind):
    exact = built(world, pseudo_pairs=kind, retrieval="exact").rows
    sparse = built(world, pseudo_pairs=kind, retrieval="sparse").rows
    for space, roles in exact.items():
        for role, rows in roles.items():
            assert float((1 - (rows * sparse[space][role]).sum(dim=1)).max()) < 1e-3


def test_sparse_retrieval_is_taken_for_large_memories(world, monkeypatch):
    taken = []
    monkeypatch.setattr(retrieval, "_MANY", 10)
    monkeypatch.setattr(retrieval, "_ASKED", 10)
    true = retrieval.retrieve_sparse
    monkeypatch.setattr(
        retrieval,
        "retrieve_sparse",
        lambda *args, **more: taken.append(len(args[1])) or true(*args, **more),
    )
    built(world)
    assert len(taken) == 2
    built(world, retrieval="exact")
    assert len(taken) == 2
