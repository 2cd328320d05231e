"""Fitting mini encoders: the loss against naive loops, a small fit, and the built-in ones."""

from __future__ import annotations

from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from features import keypad
from features.encoders import load_encoder
from features.encoders.mini.builtin import keypad_pairs
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import load_file
from features.encoders.mini.fit import (
    FitSettings,
    fit_mini,
    group_targets,
    grouped_nce,
    read_pairs,
)
from features.encoders.mini.inputs import audio_input, points_input, text_input
from features.errors import UserError
from tests.conftest import TINY
from tests.features.helpers import unit_rows

GROUPS = torch.tensor([0, 1, 0, 2, 1, 0])


def _unit(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(unit_rows(n, d, seed=seed)).double()


def test_targets_are_spread_over_the_group() -> None:
    targets = group_targets(GROUPS).tolist()
    for i, mine in enumerate(GROUPS.tolist()):
        for j, theirs in enumerate(GROUPS.tolist()):
            members = GROUPS.tolist().count(mine)
            assert targets[i][j] == pytest.approx(1 / members if mine == theirs else 0)


def _naive_nce(left: Any, right: Any, targets: Any, scale: float) -> float:
    n, total = len(left), 0.0
    for rows, columns in ((left, right), (right, left)):
        for i in range(n):
            scores = [scale * float(rows[i] @ columns[j]) for j in range(n)]
            partition = sum(exp(score) for score in scores)
            for j in range(n):
                total -= float(targets[i, j]) * log(exp(scores[j]) / partition) / n
    return total / 2


@pytest.mark.parametrize("scale", [1.0, 14.0])
def test_grouped_nce_is_that_of_a_naive_loop(scale: float) -> None:
    left, right = _unit(6, 4, 0), _unit(6, 4, 1)
    targets = group_targets(GROUPS).double()
    expected = _naive_nce(left, right, targets, scale)
    assert float(grouped_nce(left, right, targets, scale)) == pytest.approx(expected, rel=1e-9)


def test_grouped_nce_closed_form_and_symmetry() -> None:
    left, right, targets = _unit(6, 4, 0), _unit(6, 4, 1), group_targets(GROUPS).double()
    same = left[:1].expand(6, 4)
    assert float(grouped_nce(same, same, targets, 20.0)) == pytest.approx(log(6))
    loss = float(grouped_nce(left, right, targets, 9.0))
    assert float(grouped_nce(right, left, targets, 9.0)) == pytest.approx(loss)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    mixed = group_targets(GROUPS[order]).double()
    assert float(grouped_nce(left[order], right[order], mixed, 9.0)) == pytest.approx(loss)


def test_grouped_nce_gradient() -> None:
    left, right = (_unit(4, 3, seed).requires_grad_() for seed in (0, 1))
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    targets = group_targets(torch.tensor([0, 1, 0, 2])).double()
    assert torch.autograd.gradcheck(
        lambda a, b, s: grouped_nce(a, b, targets, s), (left, right, scale)
    )


def _pairs(config: MiniConfig) -> tuple[dict[Any, torch.Tensor], list[str]]:
    rng = np.random.default_rng(0)
    chosen = [str(number) for number in rng.choice(keypad.numbers("train")[:40], 120)]
    return keypad_pairs(config, chosen, rng), chosen


def _weights(path: Path) -> str:
    return load_file(str(path), device="cpu").description.weights


def test_a_small_fit_learns_is_deterministic_and_leaves_the_global_generator(
    tmp_path: Path,
) -> None:
    pytest.importorskip("sklearn")
    config = MiniConfig("m", ("audio", "text"), **{**TINY, "width": 32, "seconds": 0.5})
    arrays, groups = _pairs(config)
    settings = FitSettings(steps=40, batch=32, learning_rate=5e-3)
    losses = []
    for name in ("a", "b"):
        torch.manual_seed(len(losses))
        state = torch.random.get_rng_state()
        losses.append(fit_mini(config, arrays, groups, tmp_path / name, settings=settings,
                               device="cpu"))  # fmt: skip
        assert torch.equal(torch.random.get_rng_state(), state)
    assert losses[0] == losses[1]
    assert losses[0] < 0.85 * log(32)
    assert _weights(tmp_path / "a") == _weights(tmp_path / "b")
    other = FitSettings(steps=2, batch=8, seed=1)
    fit_mini(config, arrays, groups, tmp_path / "c", settings=other, device="cpu")
    assert _weights(tmp_path / "c") != _weights(tmp_path / "a")
    assert load_file(str(tmp_path / "a"), device="cpu").config == config


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 20])
def test_any_number_of_steps_can_be_fitted(tmp_path: Path, steps: int) -> None:
    config = MiniConfig("m", ("text", "image"), **TINY)
    arrays: dict[Any, torch.Tensor] = {
        "text": torch.ones(4, 8, dtype=torch.int16),
        "image": torch.zeros(4, 16, 32, dtype=torch.uint8),
    }
    settings = FitSettings(steps=steps, batch=4)
    loss = fit_mini(config, arrays, list("abcd"), tmp_path / "m", settings=settings, device="cpu")
    assert np.isfinite(loss)


@pytest.mark.parametrize(
    ("modalities", "groups", "message"),
    [
        (["text"], ["a", "b"], "the encoder m is for text, image but pairs of text were given"),
        (["text", "audio"], ["a", "b"], "is for text, image but pairs of text, audio were given"),
        (["text", "image"], ["a", "a"], "2 pairs with 1 different texts cannot be contrasted"),
        (["text", "image"], ["a"], "1 pairs with 1 different texts cannot be contrasted"),
    ],
)
def test_pairs_that_cannot_be_fitted_are_refused(
    tmp_path: Path, modalities: list[Any], groups: list[str], message: str
) -> None:
    config = MiniConfig("m", ("text", "image"), **TINY)
    arrays = {modality: torch.zeros(len(groups), 8) for modality in modalities}
    with pytest.raises(UserError, match=message):
        fit_mini(config, arrays, groups, tmp_path / "m", device="cpu")


def test_read_pairs_stacks_inputs_and_names_a_bad_one(tmp_path: Path) -> None:
    config = MiniConfig("m", ("text", "image"), **TINY)
    arrays = read_pairs(config, {"text": ["a dog", "b"]})
    assert arrays["text"].shape == (2, config.words)
    with pytest.raises(UserError, match=r"none\.png: cannot be decoded .*mend it or leave"):
        read_pairs(config, {"image": [tmp_path / "none.png"]})


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("mini-clip", "image"),
        ("mini-clap", "audio"),
        ("mini-ulip", "points"),
        ("mini-ulip", "image"),
    ],
)
def test_built_in_encoders_know_numbers_they_never_saw(name: str, seen: Any) -> None:
    pytest.importorskip("sklearn")
    encoder: Any = load_encoder(name, device="cpu")
    rng, numbers = np.random.default_rng(0), keypad.numbers("test")
    make = {
        "image": lambda number: keypad.image(number, "test", rng),
        "audio": lambda number: audio_input(keypad.sound(number, rng), encoder.config),
        "points": lambda number: points_input(keypad.points(number, "test", rng), encoder.config),
    }[seen]
    items = encoder.encode([make(number) for number in numbers], seen)
    sentences = [
        text_input(f"this is {keypad.spoken(number)}", encoder.config) for number in numbers
    ]
    scores = encoder.encode(sentences, "text") @ items.T
    assert encoder.space.name == name
    for one in (scores, scores.T):
        ranks = (one > one.diagonal()[:, None]).sum(dim=1)
        assert float((ranks < 1).float().mean()) > 10 / len(numbers)
        assert float((ranks < 10).float().mean()) > 80 / len(numbers)
