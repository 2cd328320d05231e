"""Hub routing against the formulas, one item at a time in Python's floats."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bridge.methods import routing
from bridge.methods.anchors import Posterior, Similarities
from bridge.methods.routing import Posteriors, agreement, posteriors, smoothed
from tests.bridge import naive
from tests.bridge.conftest import unit_rows
from tests.bridge.naive import Table

ITEMS, HUB, WIDTH = 9, 13, 5
TEMPERATURE = 0.3


def dense(found: Posteriors) -> Tensor:
    """All probabilities, zero where they were not kept."""
    table = torch.zeros(len(found), HUB, dtype=found.probability.dtype)
    return table.scatter_add_(1, found.hub, found.probability)


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


@pytest.mark.parametrize("items_at_once", [1, 4, ITEMS])
@pytest.mark.parametrize("candidates", [1, 100, 1000])
def test_blocks_of_items_change_nothing(monkeypatch, items_at_once, candidates):
    items, hub = world()

    def both() -> list[Posteriors]:
        own = posteriors(items, hub, temperature=TEMPERATURE, kept=6)
        more = smoothed(own, items, hub_items=HUB, share=0.5, temperature=0.2, neighbours=4, kept=6)
        return [own, more]

    whole = both()
    monkeypatch.setattr(routing, "_ITEMS", items_at_once)
    monkeypatch.setattr(routing, "_CANDIDATES", candidates)
    for one, other in zip(both(), whole, strict=True):
        assert torch.equal(one.hub, other.hub)
        torch.testing.assert_close(one.probability, other.probability, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("at_once", "expected"), [(1, [1] * ITEMS), (4, [4, 4, 1])])
def test_every_block_is_told(monkeypatch, at_once, expected):
    monkeypatch.setattr(routing, "_ITEMS", at_once)
    monkeypatch.setattr(routing, "_CANDIDATES", at_once * HUB * (1 + ITEMS))
    items, hub = world()
    told: list[int] = []
    posteriors(items, hub, temperature=TEMPERATURE, advance=told.append)
    assert told == expected
    told.clear()
    smoothed(routed(), items, hub_items=HUB, share=0.5, temperature=0.2, advance=told.append)
    assert told == 2 * expected


WIDE = 2000


def scattered() -> Tensor:
    return unit_rows(WIDE, WIDTH, seed=2)


def copies() -> Tensor:
    return unit_rows(7, WIDTH, seed=2).repeat(WIDE // 7 + 1, 1)[:WIDE]


def equal() -> Tensor:
    return unit_rows(1, WIDTH, seed=2).expand(WIDE, -1).contiguous()


def one_stands_out() -> Tensor:
    """The last one is all items' nearest by far."""
    rows = scattered()
    rows = rows - 0.9 * rows.mean(dim=0)
    rows[-1] = 5 * unit_rows(1, WIDTH, seed=0)[0]
    return rows


def ascending() -> Tensor:
    """Every block has better ones than those before."""
    items = unit_rows(ITEMS, WIDTH, seed=0)
    rows = scattered()
    return rows[(rows @ items[0]).argsort()]


@pytest.mark.parametrize("scores", [1, 40 * 16 * ITEMS, 1 << 22])
@pytest.mark.parametrize("temperature", [1e-4, 0.01, 0.3, 100.0])
@pytest.mark.parametrize("make", [scattered, copies, equal, one_stands_out, ascending])
def test_the_most_probable_of_many_are_those_of_the_formula(monkeypatch, make, temperature, scores):
    monkeypatch.setattr(routing, "_SCORES", scores)
    hub, items = make(), unit_rows(ITEMS, WIDTH, seed=0)
    for kept in (1, 64):
        found = posteriors(items, hub, temperature=temperature, kept=kept)
        table = torch.softmax(items @ hub.T / temperature, dim=1)
        right = table.topk(kept, dim=1).values
        torch.testing.assert_close(found.probability, right, rtol=1e-9, atol=1e-12)
        # Of equal ones any may be kept, but none twice.
        torch.testing.assert_close(table.gather(1, found.hub), right, rtol=1e-9, atol=1e-12)
        assert all(len(set(row)) == kept for row in found.hub.tolist())


def test_single_precision_is_as_good_as_the_formula_in_single_precision():
    hub, items = scattered().float(), unit_rows(ITEMS, WIDTH, seed=0).float()
    found = posteriors(items, hub, temperature=0.01)
    right = torch.softmax(items.double() @ hub.double().T / 0.01, dim=1).topk(64, dim=1).values
    torch.testing.assert_close(found.probability.double(), right, rtol=1e-4, atol=1e-7)


def test_no_more_scores_are_held_at_once_for_a_larger_hub(monkeypatch):
    monkeypatch.setattr(routing, "_SCORES", 4096)
    held: list[int] = []

    def watched(rows: Tensor, others: Tensor) -> Tensor:
        held.append(len(rows) * len(others))
        return rows @ others.T

    monkeypatch.setattr(routing, "product", watched)
    posteriors(unit_rows(ITEMS, WIDTH), scattered(), temperature=0.1, kept=8)
    assert max(held) <= 4096
    assert sum(held) == ITEMS * WIDE


@pytest.mark.parametrize("make", [scattered, copies, equal, one_stands_out])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_smoothing_over_many_hub_items_is_the_sum_of_the_kept(make, share):
    hub, items = make(), unit_rows(40, WIDTH, seed=3)
    items[20:] = items[:20]  # duplicates
    own = posteriors(items, hub, temperature=0.3)
    found = smoothed(own, items, hub_items=WIDE, share=share, temperature=0.02, neighbours=8)
    near = posteriors(items, items, temperature=0.02, kept=8)
    tables = torch.zeros(40, WIDE, dtype=torch.float64).scatter_(1, own.hub, own.probability)
    weights = torch.zeros(40, 40, dtype=torch.float64).scatter_(1, near.hub, near.probability)
    right = (1 - share) * tables + share * weights @ tables
    torch.testing.assert_close(found.probability, right.topk(64, dim=1).values, rtol=0, atol=1e-12)
    torch.testing.assert_close(right.gather(1, found.hub), found.probability, rtol=0, atol=1e-12)


def test_where_too_few_hub_items_are_probable_the_rest_have_none():
    own = Posteriors(torch.tensor([[3], [3], [8]]), torch.ones(3, 1, dtype=torch.float64))
    items = torch.eye(3, WIDTH, dtype=torch.float64)
    found = smoothed(own, items, hub_items=HUB, share=0.5, temperature=100.0, kept=5)
    assert found.hub.shape == (3, 5)
    table = dense(found)
    close(table.sum(dim=1)[None], [[1.0, 1.0, 1.0]])
    assert table.nonzero().tolist() == [[0, 3], [0, 8], [1, 3], [1, 8], [2, 3], [2, 8]]
    itself = agreement(found, found).diagonal()
    torch.testing.assert_close(itself, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("rows", [slice(2, 5), torch.tensor([3, 0, 3])])
def test_rows_can_be_taken_out(rows):
    found = routed(kept=4)
    assert torch.equal(found[rows].hub, found.hub[rows])
    assert torch.equal(found[rows].probability, found.probability[rows])
    assert len(found[rows]) == 3
