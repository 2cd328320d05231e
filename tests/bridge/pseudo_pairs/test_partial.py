"""Softmax of parts of a memory: against the formula in float64, however they are cut and merged."""

from __future__ import annotations

import math
from functools import reduce
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from bridge.pseudo_pairs.partial import Partial
from tests.bridge.conftest import unit_rows

TEMPERATURES = [1e-3, 0.01, 1.0, 100.0]


def state(queries, keys, temperature, values=None) -> Partial:
    values = [keys] if values is None else values
    made = Partial.empty(queries, [value.shape[1] for value in values])
    if len(keys):
        made.add(queries, keys, values, temperature=temperature, at_once=3)
    return made


def joined(parts: list[Partial]) -> Partial:
    def merge(one: Partial, other: Partial) -> Partial:
        one = Partial(one.best.clone(), one.mass.clone(), tuple(s.clone() for s in one.sums))
        one.merge(other)
        return one

    return reduce(merge, parts)


def test_a_state_is_its_formula():
    queries, keys = unit_rows(4, 3, seed=1), unit_rows(6, 3, seed=2)
    values = unit_rows(6, 5, seed=3)
    found = state(queries, keys, 0.2, [values])
    for i in range(4):
        logits = [float(queries[i] @ key) / 0.2 for key in keys]
        top = max(logits)
        powers = [math.exp(logit - top) for logit in logits]
        assert float(found.best[i]) == pytest.approx(top, abs=1e-12)
        assert float(found.mass[i]) == pytest.approx(math.fsum(powers), rel=1e-12)
        for axis in range(5):
            total = math.fsum(p * float(v[axis]) for p, v in zip(powers, values, strict=True))
            assert float(found.sums[0][i, axis]) == pytest.approx(total, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(
    m=st.integers(1, 30),
    cuts=st.lists(st.integers(0, 30), max_size=7),
    temperature=st.sampled_from(TEMPERATURES),
    seed=st.integers(0, 99),
)
def test_any_parts_merge_to_the_softmax_average(m, cuts, temperature, seed):
    queries, keys = unit_rows(5, 4, seed=seed), unit_rows(m, 4, seed=seed + 100)
    edges = [0, *sorted(min(cut, m) for cut in cuts), m]
    parts = [state(queries, keys[a:b], temperature) for a, b in pairwise(edges)]
    expected = normalize(torch.softmax(queries @ keys.T / temperature, dim=1) @ keys, dim=1)
    for ordered in (parts, parts[::-1]):
        (found,) = joined(ordered).values()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_merging_is_associative_and_commutative(temperature):
    queries = unit_rows(6, 4, seed=1)
    a, b, c = (state(queries, unit_rows(7, 4, seed=s), temperature) for s in (2, 3, 4))
    left, right = joined([joined([a, b]), c]), joined([a, joined([b, c])])
    turned = joined([c, b, a])
    for other in (right, turned):
        assert torch.equal(left.best, other.best)
        torch.testing.assert_close(left.mass, other.mass, rtol=1e-12, atol=0)
        torch.testing.assert_close(left.sums[0], other.sums[0], rtol=0, atol=1e-12)


def test_a_part_without_items_changes_nothing():
    queries = unit_rows(6, 4, seed=1)
    some, nothing = state(queries, unit_rows(7, 4, seed=2), 0.01), Partial.empty(queries, [4])
    for both in (joined([some, nothing]), joined([nothing, some])):
        assert all(torch.equal(one, other) for one, other in zip(some[:2], both[:2], strict=True))
        assert torch.equal(some.sums[0], both.sums[0])
    neither = joined([nothing, nothing])
    assert torch.equal(neither.best, nothing.best)
    assert not neither.mass.any()


def test_embeddings_that_are_no_numbers_stay_so():
    queries, keys = unit_rows(2, 4, seed=1), unit_rows(3, 4, seed=2)
    keys[0, 0] = torch.nan
    both = joined([state(queries, unit_rows(3, 4, seed=3), 0.1), state(queries, keys, 0.1)])
    assert both.values()[0].isnan().all()
