"""Weights of sampled items against the formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bridge.pseudo_pairs.neighbours import Neighbours
from bridge.pseudo_pairs.tail import weigh_tail

ITEMS, SAMPLED, QUERIES = 90, 30, 7


@pytest.mark.parametrize("temperature", [1e-4, 0.01, 0.3, 10.0])
def test_weights_are_those_of_the_formula_and_kept_items_have_none(temperature):
    generator = torch.Generator().manual_seed(0)
    sample = torch.rand(QUERIES, SAMPLED, generator=generator) * 2 - 1
    rows = torch.arange(0, ITEMS, 3)
    place = torch.full((ITEMS,), -1, dtype=torch.int32)
    place[rows] = torch.arange(SAMPLED, dtype=torch.int32)
    row = torch.stack([torch.randperm(ITEMS, generator=generator)[:20] for _ in range(QUERIES)])
    count = np.arange(0, 20, 3)
    near = Neighbours(row.int().numpy(), count, np.ones(QUERIES, bool))
    highest = 1.0 if temperature < 0.01 else 0.95  # than which some sampled items score more
    best = torch.full((QUERIES, 1), highest)
    expected = torch.exp((sample.double() - best) / temperature)
    for query, kept in enumerate(count):
        expected[query, place[row[query, :kept]][place[row[query, :kept]] >= 0].long()] = 0
    scores = sample.double()
    tail = weigh_tail(sample, near, place, best, temperature=temperature)
    # The exponent is rounded to float32, which a low temperature magnifies.
    close = {"rtol": 1e-5 + 1e-7 / temperature, "atol": 1e-30}
    few = expected < 2.0**-126
    torch.testing.assert_close(sample.double()[~few], expected[~few], **close)
    assert float(sample[few].max()) < 2.0**-125
    sums = (tail.mass[:, 0], tail.square, tail.moment[:, 0])
    for found, right in zip(sums, (expected, expected**2, expected * scores), strict=True):
        torch.testing.assert_close(found.double(), right.sum(dim=1), rtol=1e-2, atol=1e-4)


def test_a_weight_beyond_float32_is_seen_in_the_squares():
    near = Neighbours(np.zeros((2, 1), np.int32), np.zeros(2, np.int64), np.ones(2, bool))
    sample, best = torch.tensor([[0.5, 0.1], [0.1, 0.1]]), torch.full((2, 1), 0.2)
    place = torch.arange(2, dtype=torch.int32)
    tail = weigh_tail(sample, near, place, best, temperature=1e-3)
    assert tail.square.isfinite().tolist() == [False, True]
    assert float(tail.mass[0]) > 1e37
