from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import astuple

import numpy as np
import pytest
import torch

from bridge.artefact import Bridge, make_projector
from bridge.evaluation import comparison
from bridge.evaluation.comparison import compare_retrieval
from bridge.evaluation.differences import FEW, CrossModalDifference, Difference, FewResampled
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.projection import project_memory
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.provenance import EncoderUnknown
from features.memories.writing import save_memory
from tests.bridge.blurred import EYE, FAIR, GOOD, POOR, WIDTH, bridge, linear, memories
from tests.bridge.conftest import write_items


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Memory, Memory]:
    """Of 40 classes of one to four sounds."""
    return memories(tmp_path_factory.mktemp("pair"), [1 + i % 4 for i in range(40)])


def every(difference: CrossModalDifference | None) -> list[Difference]:
    assert difference is not None
    directions = (difference.mean, difference.forward, difference.backward)
    return [one for which in directions for one in (which.recall[1], which.mean_average_precision)]


def test_the_figures_are_those_of_eval_and_differences_are_between_them(pair):
    bridges = [FAIR, GOOD, POOR]
    result = compare_retrieval(bridges, *pair, resamples=99)
    first = result.bridges[0]
    assert first.difference is None
    for one, made in zip(result.bridges, bridges, strict=True):
        alone = evaluate_retrieval(made, *pair)
        assert (one.name, one.fingerprint) == (made.name, made.fingerprint)
        assert (one.forward, one.backward) == (alone.forward, alone.backward)
        assert (result.query, result.gallery) == ("audio", "image")
        assert (result.relevance, result.chance) == (alone.relevance, alone.chance)
        for k in (1, 5, 10):
            both = alone.forward.recall[k], alone.backward.recall[k]
            assert one.mean.recall[k] == pytest.approx(sum(both) / 2)
        if one is first:
            continue
        pairs = [(one.mean, first.mean), (one.forward, first.forward)]
        pairs += [(one.backward, first.backward)]
        expected = [
            figure
            for here, there in pairs
            for figure in (
                here.recall[1] - there.recall[1],
                here.mean_average_precision - there.mean_average_precision,
            )
        ]
        assert [d.value for d in every(one.difference)] == pytest.approx(expected, abs=1e-12)
        assert all(abs(value) > 0.01 for value in expected)


def first_and_precision(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """R@1 and average precision of one query, straight from their definitions."""
    ordered = right[np.argsort(-scores)]
    hits = np.flatnonzero(ordered) + 1
    return float(ordered[0]), float(np.mean([(i + 1) / hit for i, hit in enumerate(hits)]))


def per_query(made: Bridge, pair: tuple[Memory, Memory]) -> list[list[tuple[str, float, float]]]:
    """By direction, the class, R@1 and average precision of every query that has an answer."""
    rows = [made.project(memory.tensor(), memory.space).numpy() for memory in pair]
    names = [np.array(list(memory.labels or memory.ids)) for memory in pair]
    found = []
    for here, there in ((0, 1), (1, 0)):
        queries = zip(names[here], rows[here] @ rows[there].T, strict=True)
        found.append(
            [
                (name, *first_and_precision(scores, names[there] == name))
                for name, scores in queries
                if (names[there] == name).any()
            ]
        )
    return found


def naive(made: Bridge, first: Bridge, pair, kind: str, resamples: int) -> list[list[float]]:
    """Resampled differences, one query at a time, in the order of `every`."""
    one, other = per_query(made, pair), per_query(first, pair)
    gains = [
        [(a[0], a[1] - b[1], a[2] - b[2]) for a, b in zip(one[d], other[d], strict=True)]
        for d in (0, 1)
    ]
    generator = torch.Generator().manual_seed(0)

    def draws(count: int) -> list[list[int]]:
        return torch.randint(count, (resamples, count), generator=generator).tolist()

    if kind == "queries":
        drawn = [draws(len(gains[d])) for d in (0, 1)]
        samples = [[[gains[d][i] for i in draw] for draw in drawn[d]] for d in (0, 1)]
    else:
        # Classes are numbered as they come in the first memory.
        names = list(dict.fromkeys(name for name, *_ in gains[0]))
        drawn = [draws(len(names))] * 2
        samples = [
            [[gain for i in draw for gain in gains[d] if gain[0] == names[i]] for draw in drawn[d]]
            for d in (0, 1)
        ]
    told = []
    for there, back in zip(*samples, strict=True):
        each = [
            [float(np.mean([g[m] for g in sample])) for m in (1, 2)] for sample in (there, back)
        ]
        told.append([(a + b) / 2 for a, b in zip(*each, strict=True)] + each[0] + each[1])
    return told


@pytest.mark.parametrize(
    ("kind", "classes", "labels", "units"),
    [
        ("classes", [1 + i % 3 for i in range(FEW)], True, (FEW, FEW)),
        ("queries", [1 + i % 3 for i in range(FEW - 1)], True, (37, 25)),
        ("items", [1] * 24, False, (24, 24)),
    ],
)
def test_tests_are_those_of_a_slow_loop_over_the_same_draws(tmp_path, kind, classes, labels, units):
    pair = memories(tmp_path, classes, labels=labels, unmatched=2)
    result = compare_retrieval([POOR, FAIR], *pair, resamples=119)
    assert (result.resampled, result.units) == (kind, units)
    assert (result.bridges[0].forward.excluded, result.bridges[1].forward.excluded) == (2, 2)
    resampled = np.sort(naive(FAIR, POOR, pair, kind, 119), axis=0)
    for column, found in zip(resampled.T, every(result.bridges[1].difference), strict=True):
        # 2.5 % of 120 are the three outermost.
        assert (found.low, found.high) == pytest.approx((column[2], column[-3]), abs=1e-6)
        beyond = min((column < 1e-9).sum(), (column > -1e-9).sum())
        assert found.p_value == pytest.approx(min(1, 2 * (beyond + 1) / 120))
        assert found.low < found.value < found.high


def test_bridges_that_retrieve_the_same_do_not_differ(pair):
    blurred = FAIR.projectors["left"].state_dict()["layers.0.weight"]
    turned = linear("turned", -blurred, -EYE)  # other weights, the same cosines
    result = compare_retrieval([FAIR, turned], *pair, resamples=200)
    assert result.bridges[0].forward == result.bridges[1].forward
    for one in every(result.bridges[1].difference):
        assert astuple(one) == (0, 0, 0, 1)


def test_a_much_better_bridge_is_told_to_be(pair):
    result = compare_retrieval([POOR, GOOD], *pair)
    for one in every(result.bridges[1].difference):
        assert 0.05 < one.low < one.value < one.high
        assert one.p_value < 0.01


def test_bridges_that_are_equally_good_are_seldom_told_apart(tmp_path):
    # No direction of these worlds is special, so that it does not matter which a bridge blurs.
    found = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        bridges = [
            bridge(name, blur=0.4, seed=seed, turn=torch.linalg.qr(matrix).Q)
            for name, matrix in zip("ab", torch.randn(2, 8, 8, generator=generator), strict=True)
        ]
        pair = memories(tmp_path, [3] * 40, seed=seed)
        result = compare_retrieval(bridges, *pair, resamples=199)
        found += [one.p_value <= 0.05 for one in every(result.bridges[1].difference)]
    assert 0 < np.mean(found) < 0.09  # 5 % if all is well


def test_the_other_order_gives_the_other_sign(pair):
    there, back = (
        every(compare_retrieval(order, *pair, resamples=500).bridges[1].difference)
        for order in ([FAIR, POOR], [POOR, FAIR])
    )
    for one, other in zip(there, back, strict=True):
        assert other.value == -one.value
        assert (other.low, other.high) == (-one.high, -one.low)
        assert other.p_value == one.p_value


def test_draws_come_from_the_seed_whatever_else_is_compared(pair):
    one = compare_retrieval([FAIR, GOOD], *pair, resamples=200, seed=3)
    assert compare_retrieval([FAIR, GOOD], *pair, resamples=200, seed=3) == one
    third = compare_retrieval([FAIR, POOR, GOOD], *pair, resamples=200, seed=3)
    assert np.array([astuple(d) for d in every(third.bridges[2].difference)]) == pytest.approx(
        np.array([astuple(d) for d in every(one.bridges[1].difference)]), abs=1e-12
    )
    other = compare_retrieval([FAIR, GOOD], *pair, resamples=200, seed=4)
    assert other.bridges[1].difference != one.bridges[1].difference
    assert other.bridges[1].forward == one.bridges[1].forward


def test_an_item_is_drawn_with_its_partner(tmp_path):
    # Forward and backward, the same items are hard: their mean is as unsure as each direction.
    pair = memories(tmp_path, [1] * 200, labels=False)
    result = compare_retrieval([POOR, FAIR], *pair, resamples=2000)
    mean, forward, backward = (
        one.high - one.low for one in every(result.bridges[1].difference)[1::2]
    )
    apart = math.hypot(forward, backward) / 2  # of the mean, if they were independent
    assert mean > 1.1 * apart


def test_few_to_draw_from_are_told_of(tmp_path):
    pair = memories(tmp_path, [1] * (FEW - 1), labels=False)
    with pytest.warns(FewResampled, match=f"only {FEW - 1} items to draw from, fewer than {FEW}"):
        compare_retrieval([FAIR, GOOD], *pair, resamples=99)


def test_progress_goes_to_the_end(pair):
    told: dict[str, list[int]] = {}

    class Watch:
        @contextmanager
        def task(self, description, total, *, unit="items", done=0):  # noqa: ARG002
            told[description] = [total, 0]

            def advance(count: int) -> None:
                told[description][1] += count

            yield advance

    compare_retrieval([FAIR, GOOD, POOR], *pair, resamples=150, progress=Watch())
    assert told == {"evaluate": [3, 3], "resample": [150, 150]}


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_bridges_are_refused(pair, count):
    with pytest.raises(UserError, match=rf"two bridges or more but {count} was given: give anoth"):
        compare_retrieval([GOOD][:count], *pair)


def test_a_bridge_that_is_given_twice_is_refused(pair):
    again = bridge("again", blur=0.02, seed=1)
    with pytest.raises(UserError) as caught:
        compare_retrieval([GOOD, POOR, again], *pair)
    assert str(caught.value) == (
        f"the bridges good and again have the same weights ({GOOD.fingerprint}), so there is "
        "nothing to compare: give each bridge once"
    )


def test_too_few_resamples_are_refused(pair):
    with pytest.raises(UserError, match="resamples is 38 but a 95 % interval needs at least 39"):
        compare_retrieval([GOOD, POOR], *pair, resamples=38)
    compare_retrieval([GOOD, POOR], *pair, resamples=39)


def test_a_memory_that_one_bridge_projected_is_refused(pair, tmp_path):
    shared = project_memory(GOOD, pair[1], tmp_path / "shared.h5")
    with pytest.raises(UserError, match=r"shared.h5 is projected by one bridge, good, so others"):
        compare_retrieval([GOOD, POOR], pair[0], shared)


def test_what_the_last_bridge_is_refused_for_is_told_before_the_first_is_evaluated(
    pair, made, tmp_path, monkeypatch
):
    rows, ids = np.eye(WIDTH, dtype=np.float32), list("abcdefgh")
    third = save_memory(tmp_path / "third.h5", rows, ids, space="third", modality="image")
    monkeypatch.delattr(comparison, "search_both_ways")
    with pytest.raises(UserError, match=r"the bridge \w+ was trained on 12-d ones"):
        compare_retrieval([GOOD, FAIR, made], *pair)
    with pytest.raises(UserError, match="joins left and right, not 'third'"):
        compare_retrieval([GOOD, FAIR], pair[0], third)


def untrained(made: Bridge) -> Bridge:
    """A bridge between the same spaces."""
    projectors = {
        name: make_projector(space.dimension, made.settings) for name, space in made.spaces.items()
    }
    return Bridge("untrained", [*made.spaces.values()], projectors, made.settings)


def test_a_memory_of_another_encoder_needs_trust(world, made, tmp_path):
    bridges = [made, untrained(made)]
    foreign = write_items(tmp_path / "f.h5", "left", "audio", range(30), weights="other weights")
    with pytest.raises(UserError, match=r"f.h5 and the space left of .* have encoders with other"):
        compare_retrieval(bridges, foreign, world.test[1])
    result = compare_retrieval(bridges, foreign, world.test[1], trust_encoder=True)
    assert (result.resampled, result.units) == ("queries", (30, 40))


def test_what_is_taken_on_trust_is_told_once_a_bridge(world, made, tmp_path):
    known = world.test[0]
    unknown = save_memory(
        tmp_path / "u.h5", known.tensor().numpy(), known.ids, space="left", modality="audio",
        labels=known.labels,
    )  # fmt: skip
    with pytest.warns(EncoderUnknown) as told:
        compare_retrieval([made, untrained(made)], unknown, world.test[1], resamples=99)
    assert len(told) == 2
