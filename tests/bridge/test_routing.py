"""Hub routing against the formulas, one item at a time in Python's floats."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bridge import routing
from bridge.anchors import Posterior, Similarities
from bridge.routing import Posteriors, agreement, posteriors, smoothed
from tests.bridge import naive
from tests.bridge.conftest import unit_rows
from tests.bridge.naive import Table

ITEMS, HUB, WIDTH = 9, 13, 5
TEMPERATURE = 0.3


def dense(found: Posteriors) -> Tensor:
    """All probabilities, zero where they were not kept."""
    table = torch.zeros(len(found), HUB, dtype=found.probability.dtype)
    return table.scatter_(1, found.hub, found.probability)


def exactly(table: Table) -> Tensor:
    return torch.tensor(table, dtype=torch.float64)


def close(found: Tensor, expected: Table) -> None:
    torch.testing.assert_close(found, exactly(expected), rtol=0, atol=1e-9)


def world(seed: int = 0) -> tuple[Tensor, Tensor]:
    return unit_rows(ITEMS, WIDTH, seed=seed), unit_rows(HUB, WIDTH, seed=seed + 1)


def naive_beliefs(seed: int = 0) -> Table:
    items, hub = world(seed)
    return naive.posteriors(items.tolist(), hub.tolist(), TEMPERATURE)


def routed(seed: int = 0, kept: int = HUB) -> Posteriors:
    return posteriors(*world(seed), temperature=TEMPERATURE, kept=kept)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 10.0])
def test_posteriors_are_the_softmax_over_the_hub(temperature):
    items, hub = world()
    found = posteriors(items, hub, temperature=temperature, kept=HUB)
    close(dense(found), naive.posteriors(items.tolist(), hub.tolist(), temperature))


@pytest.mark.parametrize("kept", [1, 4, HUB, HUB + 5])
def test_the_most_probable_are_kept_as_they_are(kept):
    found, naive = routed(kept=kept), naive_beliefs()
    assert found.hub.shape == found.probability.shape == (ITEMS, min(kept, HUB))
    for places, values, row in zip(found.hub, found.probability, naive, strict=True):
        best = sorted(range(HUB), key=lambda t: -row[t])[:kept]
        assert places.tolist() == best
        assert values.tolist() == pytest.approx([row[t] for t in best], abs=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_smoothing_is_a_walk_over_the_items_of_the_memory(share):
    items, _ = world()
    found = smoothed(
        routed(), items, hub_items=HUB, share=share, temperature=0.2, neighbours=ITEMS, kept=HUB
    )
    own = naive_beliefs()
    close(dense(found), naive.smoothed(own, items.tolist(), share=share, temperature=0.2))
    torch.testing.assert_close(
        dense(found).sum(dim=1), torch.ones(ITEMS, dtype=torch.float64), rtol=0, atol=1e-9
    )


def test_smoothing_that_keeps_fewer_loses_no_more_than_what_it_drops():
    items, _ = world()
    own = naive_beliefs()
    exact = exactly(naive.smoothed(own, items.tolist(), share=0.5, temperature=0.2))
    near = exactly(naive.posteriors(items.tolist(), items.tolist(), 0.2))
    for neighbours, kept in ((ITEMS, 5), (4, HUB), (4, 5)):
        found = smoothed(
            routed(kept=kept), items, hub_items=HUB, share=0.5, temperature=0.2,
            neighbours=neighbours, kept=kept,
        )  # fmt: skip
        missed = exact - dense(found)
        assert float(missed.min()) > -1e-9
        dropped = 1 - exactly(own).topk(kept, dim=1).values.sum(dim=1)
        forgotten = 1 - near.topk(neighbours, dim=1).values.sum(dim=1)
        # Its own beliefs, its neighbours', the neighbours themselves, and the cut at the end.
        rest = 1 - exact.topk(kept, dim=1).values.sum(dim=1)
        bound = 0.5 * dropped + 0.5 * dropped.max() + 0.5 * forgotten + rest
        assert (missed.sum(dim=1) <= bound + 1e-9).all()
        assert float(missed.sum(dim=1).min()) > 0


def test_agreement_is_the_bhattacharyya_coefficient():
    left, right = naive_beliefs(0), naive_beliefs(7)
    close(agreement(routed(0), routed(7)), naive.agreement(left, right))


@pytest.mark.parametrize("kept", [1, 4, 9])
def test_agreement_of_fewer_lacks_at_most_what_both_dropped(kept):
    left, right = naive_beliefs(0), naive_beliefs(7)
    missed = exactly(naive.agreement(left, right)) - agreement(routed(0, kept), routed(7, kept))
    dropped = [1 - exactly(table).topk(kept).values.sum(dim=1) for table in (left, right)]
    # Cauchy-Schwarz, over what the left one dropped and over what the right one did.
    bound = dropped[0].sqrt()[:, None] + dropped[1].sqrt()
    assert float(missed.min()) > 0
    assert (missed <= bound).all()


def test_agreement_of_hand_made_beliefs():
    left = Posteriors(torch.tensor([[5, 900]]), torch.tensor([[0.5, 0.5]]))
    right = Posteriors(
        torch.tensor([[900, 5], [5, 7], [1, 2]]),
        torch.tensor([[0.5, 0.5], [0.5, 0.25], [0.9, 0.1]]),
    )
    torch.testing.assert_close(agreement(left, right), torch.tensor([[1.0, 0.5, 0.0]]))
    torch.testing.assert_close(agreement(left, right[1:2]), torch.tensor([[0.5]]))


def test_items_agree_with_themselves_and_with_others_less():
    table = agreement(routed(), routed())
    close(table.diagonal()[None], [[1.0] * ITEMS])
    assert float((table - 2 * torch.eye(ITEMS)).max()) < 1 - 1e-6
    torch.testing.assert_close(table, table.T, rtol=0, atol=1e-12)


def test_the_routing_layer_has_the_agreement_as_its_inner_product():
    layers = [Posterior(world(seed)[1], TEMPERATURE) for seed in (0, 7)]
    left, right = (layer(world(seed)[0]) for layer, seed in zip(layers, (0, 7), strict=True))
    # The layer keeps its temperature in float32, as everything in a bridge.
    torch.testing.assert_close(left @ right.T, agreement(routed(0), routed(7)), rtol=0, atol=1e-7)
    torch.testing.assert_close(
        left.square().sum(dim=1), torch.ones(ITEMS, dtype=torch.float64), rtol=0, atol=1e-9
    )


def test_the_relative_layer_has_the_cosines_with_the_anchors():
    items, anchors = world()
    close(
        Similarities(anchors)(items),
        [[naive.inner(item, anchor) for anchor in anchors.tolist()] for item in items.tolist()],
    )


@pytest.mark.parametrize("table", [1, HUB, 3 * HUB + 1, ITEMS * HUB])
def test_blocks_change_nothing(monkeypatch, table):
    items, hub = world()

    def both() -> list[Posteriors]:
        own = posteriors(items, hub, temperature=TEMPERATURE, kept=6)
        more = smoothed(own, items, hub_items=HUB, share=0.5, temperature=0.2, neighbours=4, kept=6)
        return [own, more]

    whole = both()
    monkeypatch.setattr(routing, "_TABLE", table)
    for one, other in zip(both(), whole, strict=True):
        assert torch.equal(one.hub, other.hub)
        torch.testing.assert_close(one.probability, other.probability, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("table", "expected"), [(1, [1] * ITEMS), (4 * HUB, [4, 4, 1])])
def test_every_block_is_told(monkeypatch, table, expected):
    monkeypatch.setattr(routing, "_TABLE", table)
    items, hub = world()
    for made in (
        lambda told: posteriors(items, hub, temperature=TEMPERATURE, advance=told.append),
        lambda told: smoothed(
            routed(), items, hub_items=HUB, share=0.5, temperature=0.2, advance=told.append
        ),
    ):
        told: list[int] = []
        made(told)
        assert told == expected


@pytest.mark.parametrize("rows", [slice(2, 5), torch.tensor([3, 0, 3])])
def test_rows_can_be_taken_out(rows):
    found = routed(kept=4)
    assert torch.equal(found[rows].hub, found.hub[rows])
    assert torch.equal(found[rows].probability, found.probability[rows])
    assert len(found[rows]) == 3
