"""Leaf memories that have nothing to do with their hub items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bridge.training.resemblance import FEWEST, NARROWEST, shared_directions
from bridge.training.train import train
from bridge.tuning import tune
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.bridge.conftest import SETTINGS, unit, unit_rows

WIDTH, MEANINGS = 48, 6
SHORT = replace(SETTINGS, epochs=1)


def rotation(width: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def low_rank(items: int, *, seed: int, width: int = WIDTH) -> np.ndarray:
    """Unit rows of few meanings, always in the same directions."""
    into = np.random.default_rng(0).normal(size=(MEANINGS, width))
    rng = np.random.default_rng([1, seed])
    gap, noise = rng.normal(size=width), 0.1 * rng.normal(size=(items, width))
    return unit(rng.normal(size=(items, MEANINGS)) @ into + gap + noise)


def tensor(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows).double()


def share_by_svd(hub: Tensor, leaf: Tensor) -> float:
    rows, others = (x.numpy() - x.numpy().mean(axis=0) for x in (hub, leaf))
    main = np.linalg.svd(others)[2][: hub.shape[1] // 4]
    return float(((rows @ main.T) ** 2).sum() / (rows**2).sum())


@pytest.mark.parametrize("width", [32, 35, WIDTH])
def test_the_share_is_that_of_the_leaf_s_main_directions(width):
    hub, leaf = unit_rows(50, width, seed=1), unit_rows(200, width, seed=2)
    leaf = leaf * torch.linspace(0.2, 2, width)  # or else all directions are alike
    assert shared_directions(hub, leaf) == pytest.approx(share_by_svd(hub, leaf), abs=1e-9)


def along(items: int, dimensions: range, seed: int, width: int = 32) -> Tensor:
    """Rows about a mean far away, which vary in some dimensions alone."""
    rows = torch.ones(items, width, dtype=torch.float64)
    rows[:, list(dimensions)] += unit_rows(items, len(dimensions), seed=seed)
    return rows


@pytest.mark.parametrize(
    ("dimensions", "share"), [(range(8), 1.0), (range(2, 7), 1.0), (range(8, 32), 0.0)]
)
def test_all_or_nothing_where_items_vary_in_the_same_dimensions_or_in_others(dimensions, share):
    leaf = along(40, range(8), seed=0)
    hub = along(30, dimensions, seed=1)
    assert shared_directions(hub, leaf) == pytest.approx(share, abs=1e-9)


def test_a_quarter_by_chance():
    """Of hub items that vary alike in all directions, whatever the leaf."""
    hub = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)]).double()
    assert shared_directions(hub, tensor(low_rank(60, seed=1))) == pytest.approx(0.25, abs=1e-9)


def test_items_of_one_space_share_their_directions_and_those_of_two_spaces_do_not():
    hub, leaf = low_rank(80, seed=1), low_rank(60, seed=2)
    assert shared_directions(tensor(hub), tensor(leaf)) > 0.9
    shares = [
        shared_directions(tensor(hub), tensor(leaf @ rotation(WIDTH, seed))) for seed in range(20)
    ]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.05)
    assert max(shares) < 0.5


def test_turning_both_changes_nothing():
    turn = rotation(WIDTH, 3)
    for leaf in (low_rank(60, seed=2), low_rank(60, seed=2) @ rotation(WIDTH, 4)):
        hub = low_rank(80, seed=1)
        straight = shared_directions(tensor(hub), tensor(leaf))
        turned = shared_directions(tensor(hub @ turn), tensor(leaf @ turn))
        assert turned == pytest.approx(straight, abs=1e-5)


@pytest.mark.parametrize(
    ("items", "leaves", "width", "told"),
    [
        (FEWEST, FEWEST, NARROWEST, True),
        (FEWEST - 1, 60, NARROWEST, False),
        (60, FEWEST - 1, NARROWEST, False),
        (60, 60, NARROWEST - 1, False),
        (60, 32, 128, True),
        (60, 31, 128, False),  # they vary in fewer directions than a quarter
        (FEWEST, 32, 128, True),
    ],
)
def test_of_few_items_or_narrow_spaces_nothing_is_said(items, leaves, width, told):
    found = shared_directions(unit_rows(items, width), unit_rows(leaves, width, seed=1))
    assert (found is not None) is told


@pytest.mark.parametrize("items", [16, 24, 31])
def test_few_items_of_a_wide_space_are_not_mistaken_for_another_encoder(items):
    """Theirs are few of the many directions in which all items of the space vary."""
    spread = torch.linspace(1, 0.2, 128)
    hub, leaf = unit_rows(400, 128, seed=1) * spread, unit_rows(400, 128, seed=2) * spread
    assert shared_directions(hub, leaf) > 0.4
    assert shared_directions(hub, leaf[:items]) is None


def test_of_hub_items_that_do_not_differ_nothing_is_said():
    same = unit_rows(1, 40, dtype=torch.float32).repeat(30, 1)
    assert shared_directions(same, unit_rows(30, 40, seed=1, dtype=torch.float32)) is None


def memory(
    folder: Path, space: str, modality: str, rows: np.ndarray, name: str | None = None
) -> Memory:
    return save_memory(
        folder / f"{name or modality}-{space}.h5",
        unit(rows),
        [f"{modality}-{i}" for i in range(len(rows))],
        space=space,
        modality=modality,
        encoder={"weights": f"weights of {space}"},
    )


def hubs(folder: Path, items: int = 80, width: int = WIDTH) -> list[Memory]:
    rows = low_rank(items, seed=1, width=width)
    return [
        memory(folder, space, "text", rows @ rotation(width, turn))
        for space, turn in (("left", 10), ("right", 20))
    ]


def leaf_rows(items: int = 60, *, turn: int, width: int = WIDTH) -> np.ndarray:
    """Of the space `left` (10) or `right` (20), or of another encoder."""
    return low_rank(items, seed=2, width=width) @ rotation(width, turn)


FOREIGN = 30


def test_related_memories_are_trained_on(tmp_path):
    leaves = [
        memory(tmp_path, "left", "audio", leaf_rows(turn=10)),
        memory(tmp_path, "right", "image", leaf_rows(turn=20)),
    ]
    made = train(hubs(tmp_path), leaves, tmp_path / "out", SHORT, device="cpu")
    assert len(made.memories) == 4


@pytest.mark.parametrize("method", ["projectors", "cca", "mixture"])
def test_a_leaf_memory_of_another_encoder_is_refused(tmp_path, method):
    hub = hubs(tmp_path)
    foreign = memory(tmp_path, "right", "image", leaf_rows(turn=FOREIGN))
    related = memory(tmp_path, "left", "audio", leaf_rows(turn=10))
    share = share_by_svd(hub[1].tensor().double(), foreign.tensor().double())
    chosen = {"method": method, "holdout": 0.0, "dimension": 8}
    with pytest.raises(UserError) as caught:
        train(hub, [related, foreign], tmp_path / "o", type(SHORT)(**chosen), device="cpu")
    told = str(caught.value)
    assert told.startswith(
        f"no hub item of {hub[1].path} resembles the leaf memory {foreign.path}: the directions "
        f"in which the memory varies hold {share:.0%} of what tells hub items apart, and 25% would "
        "be chance (nearest items have a cosine of "
    )
    nearest = (hub[1].tensor()[:16] @ foreign.tensor().T).amax(dim=1).mean()
    assert f"cosine of {nearest:.2f}), so the bridge would be noise; embed both with" in told
    assert str(related.path) not in told
    assert not (tmp_path / "o" / "bridge.json").exists()


def test_settings_are_not_tuned_with_it_either(tmp_path):
    leaf = memory(tmp_path, "left", "audio", leaf_rows(turn=FOREIGN))
    with pytest.raises(UserError, match=f"resembles the leaf memory {leaf.path}: "):
        tune(hubs(tmp_path), [leaf], tmp_path / "tuned.toml", SHORT, device="cpu")
    assert not list(tmp_path.glob("tuned*"))


def test_a_leaf_of_several_files_is_named_with_all_of_them(tmp_path):
    rows = leaf_rows(turn=FOREIGN)
    parts = [
        memory(tmp_path, "left", "audio", some, name=name)
        for name, some in (("first", rows[:30]), ("second", rows[30:]))
    ]
    with pytest.raises(UserError, match=rf"leaf memory {parts[0].path} and {parts[1].path}: the"):
        train(hubs(tmp_path), parts, tmp_path / "out", SHORT, device="cpu")


@pytest.mark.parametrize(("items", "width"), [(FEWEST - 1, WIDTH), (60, NARROWEST - 1)])
def test_what_cannot_be_told_is_trained_on(tmp_path, items, width):
    leaf = memory(tmp_path, "left", "audio", leaf_rows(items, turn=FOREIGN, width=width))
    made = train(hubs(tmp_path, width=width), [leaf], tmp_path / "out", SHORT, device="cpu")
    assert made.memories[2].items == items
