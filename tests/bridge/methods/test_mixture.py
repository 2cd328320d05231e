"""Mixtures: how their parts are weighed, and that they can be interrupted at any moment."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bridge.config import TrainSettings
from bridge.methods import mixture
from bridge.methods.mixture import (
    Question,
    candidates,
    questions,
    stacked_weights,
)
from bridge.projector import Mixture, Projector, ProjectorSpec
from bridge.training.training_set import check_memories, load_rows
from features.progress import SILENT
from tests.bridge import naive
from tests.bridge.conftest import MIXTURE as SETTINGS
from tests.bridge.conftest import unit_rows


def scores(*, right: float, seed: int, items: int = 12) -> Tensor:
    """Similarities in which the right column stands out by `right`, amid noise."""
    noise = torch.randn(items, items + 4, generator=torch.Generator().manual_seed(seed))
    return 0.3 * noise + right * torch.eye(items, items + 4)


def question(*stands_out: float, seed: int) -> Question:
    tables = [scores(right=right, seed=10 * seed + k) for k, right in enumerate(stands_out)]
    return Question(torch.stack(tables), torch.eye(12, 16))


def cost_of(asked: list[Question], weights: Tensor) -> float:
    """Mean cross-entropy under raw weights, at any scale."""
    losses = [
        cross_entropy((weights[:, None, None] * one.scores.double()).sum(dim=0), one.right.double())
        for one in asked
    ]
    return float(sum(losses) / len(losses))


@pytest.mark.parametrize("stands_out", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.2), (0.0, 0.0, 0.0)])
def test_weights_are_shares(stands_out):
    weights, cost = stacked_weights([question(*stands_out, seed=s) for s in range(3)])
    assert sum(weights) == pytest.approx(1, abs=1e-9)
    assert min(weights) >= 0
    assert math.isfinite(cost)


def test_a_candidate_that_is_right_beats_noise_and_one_that_is_wrong():
    weights, cost = stacked_weights([question(1.0, 0.0, -0.5, seed=s) for s in range(4)])
    assert weights[0] > 0.9
    assert weights[2] < 0.001
    assert cost < 0.2 * math.log(16)


def test_equally_good_candidates_share_alike():
    one = question(0.4, seed=1).scores[0]
    mirrored = Question(torch.stack([one, one.clone(), one.clone()]), torch.eye(12, 16))
    weights, _ = stacked_weights([mirrored])
    assert weights == pytest.approx([1 / 3] * 3, abs=1e-6)


@pytest.mark.parametrize("stands_out", [(0.4, 0.2), (0.2, 0.4), (0.3, 0.3), (0.5, 0.0)])
def test_two_weights_are_those_of_a_fine_grid(stands_out):
    asked = [question(*stands_out, seed=s) for s in range(3)]
    found, cost = stacked_weights(asked)
    best = min(
        (cost_of(asked, scale * torch.tensor([share, 1 - share])), share)
        for share in [step / 200 for step in range(201)]
        for scale in [0.25 * 1.08**step for step in range(70)]
    )
    assert found[0] == pytest.approx(best[1], abs=0.01)
    assert best[0] - 1e-3 < cost < best[0] + 1e-3


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_numbers_whatever_the_scores(seed):
    generator, items = torch.Generator().manual_seed(seed), 6
    tables = [
        0.3 * torch.randn(items, items + 3, generator=generator)
        + stands_out * torch.eye(items, items + 3)
        for stands_out in torch.rand(2 + seed % 5, generator=generator)
    ]
    weights, cost = stacked_weights([Question(torch.stack(tables), torch.eye(items, items + 3))])
    assert math.isfinite(cost)
    assert sum(weights) == pytest.approx(1)


def test_every_question_counts_the_same_however_many_items_it_has():
    many, few = question(0.6, 0.0, seed=1), question(0.0, 0.6, seed=2)
    short = Question(few.scores[:, :3], few.right[:3])
    twice = Question(few.scores[:, :3].repeat(1, 4, 1), few.right[:3].repeat(4, 1))
    weights, again = (stacked_weights([many, other])[0] for other in (short, twice))
    assert weights == pytest.approx(again, abs=1e-4)
    assert 0.1 < weights[0] < 0.9


def frozen_of(world, *, leaf=None, holdout: float = 0.2):
    return load_rows(
        check_memories(world.hub, world.leaf if leaf is None else leaf),
        holdout=holdout,
        seed=0,
        device=torch.device("cpu"),
    )


TRIED = {
    "cca": TrainSettings(method="cca", dimension=6),
    "routing": TrainSettings(method="routing"),
}


@pytest.mark.parametrize(("leaves", "views"), [(0, 2), (1, 2), (2, 6)])
def test_every_fold_is_asked_both_ways_about_items_it_was_not_fitted_on(
    world, monkeypatch, leaves, views
):
    frozen = frozen_of(world, leaf=world.leaf[:leaves])
    fitted: list[set[bytes]] = []

    def watched(part, settings):
        fitted.append({row.numpy().tobytes() for row in part.hub["left"]})
        assert not len(part.held_out["left"])
        return mixture.solve(part, settings)

    monkeypatch.setattr(mixture, "fit", watched)
    asked = questions(frozen, TRIED, seed=0, progress=SILENT)
    assert len(asked) == 5 * views
    assert all(one.scores.shape == (2, 16, 80) for one in asked)
    everything = {row.numpy().tobytes() for row in frozen.hub["left"]}
    left_out = [everything - items for items in fitted[::2]]
    assert fitted[::2] == fitted[1::2]
    assert [len(items) for items in left_out] == [16] * 5
    assert set.union(*left_out) == everything


def test_the_right_column_is_the_left_out_item_itself(world):
    """Without leaves, an item is looked up by itself in the other space."""
    asked = questions(frozen_of(world, leaf=()), TRIED, seed=0, progress=SILENT)
    for one in asked:
        assert torch.equal(one.right, torch.eye(16, 80))
        right = (one.scores[0].argmax(dim=1) == torch.arange(16)).double().mean()
        assert right > 0.5  # of 80


def test_items_that_the_leaves_cannot_tell_apart_are_right_together(world):
    """As much as they agree on the items of both leaf memories, retrieved as for pseudo pairs."""
    frozen = frozen_of(world)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    gallery = torch.cat([order[:16], order[16:]])
    expected = torch.ones(16, 80, dtype=torch.float64)
    for space, leaf in frozen.leaf.items():
        items = frozen.hub[space][gallery].tolist()
        beliefs = naive.posteriors(items, leaf.tolist(), 0.01)
        expected *= torch.tensor(naive.agreement(beliefs[:16], beliefs), dtype=torch.float64)
    expected /= expected.sum(dim=1, keepdim=True)
    first = questions(frozen, TRIED, seed=0, progress=SILENT)[0].right
    torch.testing.assert_close(first.double(), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(first.sum(dim=1), torch.ones(16))


def test_the_seed_decides_the_folds(world):
    frozen = frozen_of(world)
    one, same, other = (
        questions(frozen, TRIED, seed=seed, progress=SILENT)[0].scores for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_patience_is_ignored_while_weighing(world):
    """Nothing is held out there to lose patience with."""
    plain = replace(candidates(SETTINGS, 80)["mlp2"], epochs=3)
    patient = replace(plain, patience=1, learning_rate=0.5)
    impatient = replace(patient, patience=None)
    frozen = frozen_of(world, leaf=())
    one, same, other = (
        questions(frozen, {"mlp2": settings}, seed=0, progress=SILENT)[0].scores
        for settings in (patient, impatient, plain)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_fewer_folds_are_fitted_where_items_are_many(world, monkeypatch):
    monkeypatch.setattr(mixture, "ENOUGH", 20)  # two folds of 16
    monkeypatch.setattr(mixture, "MOST_LEFT_OUT", 9)
    monkeypatch.setattr(mixture, "MOST_DISTRACTORS", 11)
    asked = questions(frozen_of(world, leaf=()), TRIED, seed=0, progress=SILENT)
    assert [one.scores.shape for one in asked] == 2 * 2 * [(2, 9, 20)]


def test_candidates_pass_their_settings_on():
    settings = replace(SETTINGS, anchors=77, penalty=0.5, seed=4, projector="mlp1", batch=None)
    tried = candidates(settings, items=1000)
    assert list(tried) == ["cca", "linear", "mlp1", "routing 0.05", "routing 0.1", "routing 0.2"]
    assert {one.seed for one in tried.values()} == {4}
    assert (tried["cca"].method, tried["cca"].penalty) == ("cca", 0.5)
    assert {one.anchors for name, one in tried.items() if "routing" in name} == {77}
    assert (tried["mlp1"].method, tried["mlp1"].projector) == ("projectors", "mlp1")
    assert (tried["linear"].projector, tried["linear"].epochs) == ("linear", 6)
    assert candidates(settings, items=100_000)["linear"].epochs == settings.epochs


PARTS = (
    ProjectorSpec("linear", 12, 5),
    ProjectorSpec("mlp2", 12, 7, hidden=9, modalities=("text", "audio")),
    ProjectorSpec("routing", 12, 4),
)


def random_part(spec: ProjectorSpec, seed: int) -> Projector | Mixture:
    generator = torch.Generator().manual_seed(seed)
    part = spec.build(generator).eval()
    for name, buffer in part.named_buffers():
        if name.startswith("offset") or name.endswith("anchors"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
    return part


def test_inner_products_of_a_mixture_are_the_weighted_mean_of_its_parts():
    weights = [0.5, 0.2, 0.3]
    sides = [[random_part(spec, seed + k) for k, spec in enumerate(PARTS)] for seed in (0, 10)]
    left, right = (Mixture(parts, weights).eval() for parts in sides)
    audio, text = (unit_rows(n, 12, seed=n, dtype=torch.float32) for n in (6, 8))
    with torch.inference_mode():
        first, second = left.project(audio, "audio"), right.project(text, "text")
        expected = sum(
            weight * one.project(audio, "audio") @ other.project(text, "text").T
            for weight, one, other in zip(weights, *sides, strict=True)
        )
    torch.testing.assert_close(first @ second.T, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(6))
    assert first.shape == (6, 5 + 7 + 4)


def test_a_mixture_describes_itself_even_within_another():
    inner = Mixture([random_part(spec, 0) for spec in PARTS[:2]], [0.4, 0.6])
    outer = Mixture([inner, random_part(PARTS[2], 0)], [0.7, 0.3]).eval()
    back = ProjectorSpec.from_dict(outer.spec.as_dict()).build(torch.Generator())
    assert back.spec == outer.spec
    back.load_state_dict(outer.state_dict())
    rows = unit_rows(3, 12, dtype=torch.float32)
    assert torch.equal(back.eval().project(rows, "text"), outer.project(rows, "text"))
