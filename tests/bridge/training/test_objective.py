from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from bridge.losses.info_nce import info_nce
from bridge.losses.intra import intra_distance
from bridge.projector import Projector
from bridge.training.objective import cmcr_terms, project_batch, weighted_sum
from tests.bridge.conftest import unit_rows

TEMPERATURES = {"inter_hub_temperature": 0.05, "inter_leaf_temperature": 0.2}
WIDTHS = {"left": 5, "right": 7}


def make_projectors() -> dict[str, Projector]:
    generator = torch.Generator().manual_seed(0)
    return {
        space: Projector("mlp2", inputs=width, outputs=4, hidden=8, generator=generator)
        for space, width in WIDTHS.items()
    }


def make_batch(*leaves: str) -> dict[str, dict[str, torch.Tensor]]:
    batch = {
        space: {"hub": unit_rows(9, width, seed=width, dtype=torch.float32)}
        for space, width in WIDTHS.items()
    }
    for space in leaves:
        width = WIDTHS[space]
        batch[space]["leaf"] = unit_rows(9, width, seed=width + 1, dtype=torch.float32)
    return batch


def projected_together(batch, projectors):
    """Every space's rows in one pass through a copy of its projector."""
    return {
        space: deepcopy(projectors[space])(torch.cat(list(parts.values()))).split(9)
        for space, parts in batch.items()
    }


def test_the_terms_are_the_losses_of_the_projected_rows():
    batch, projectors = make_batch("left", "right"), make_projectors()
    (hub_left, leaf_left), (hub_right, leaf_right) = projected_together(batch, projectors).values()
    terms = cmcr_terms(project_batch(batch, projectors), **TEMPERATURES)
    assert list(terms) == ["inter_hub", "inter_leaf", "intra"]
    torch.testing.assert_close(terms["inter_hub"], info_nce(hub_left, hub_right, temperature=0.05))
    torch.testing.assert_close(
        terms["inter_leaf"], info_nce(leaf_left, leaf_right, temperature=0.2)
    )
    halves = intra_distance(hub_left, leaf_left) + intra_distance(hub_right, leaf_right)
    torch.testing.assert_close(terms["intra"], halves / 2)


@pytest.mark.parametrize("space", ["left", "right"])
def test_with_one_leaf_only_its_own_gap_is_closed(space):
    batch, projectors = make_batch(space), make_projectors()
    hub, leaf = projected_together(batch, projectors)[space]
    terms = cmcr_terms(project_batch(batch, projectors), **TEMPERATURES)
    assert list(terms) == ["inter_hub", "intra"]
    torch.testing.assert_close(terms["intra"], intra_distance(hub, leaf))


def test_without_leaves_the_hub_is_all_there_is():
    terms = cmcr_terms(project_batch(make_batch(), make_projectors()), **TEMPERATURES)
    assert list(terms) == ["inter_hub"]


def test_batch_norm_sees_hub_and_leaf_in_one_pass():
    batch, projectors = make_batch("left"), make_projectors()
    linear = deepcopy(projectors["left"].layers[0])
    cmcr_terms(project_batch(batch, projectors), **TEMPERATURES)
    norm = projectors["left"].layers[1]
    everything = linear(torch.cat([batch["left"]["hub"], batch["left"]["leaf"]]))
    assert int(norm.num_batches_tracked) == 1
    torch.testing.assert_close(norm.running_mean, norm.momentum * everything.mean(dim=0))


def test_the_sum_is_weighted():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(3.0), "c": torch.tensor(5.0)}
    weights = {"a": 1.0, "b": 0.5, "c": 0.1}
    assert float(weighted_sum(terms, weights)) == pytest.approx(2 + 1.5 + 0.5)


def test_terms_of_weight_zero_are_left_out_of_the_graph():
    kept, dropped = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    poisoned = dropped * torch.inf
    total = weighted_sum({"kept": kept, "dropped": poisoned}, {"kept": 2.0, "dropped": 0.0})
    total.backward()
    assert (total.item(), kept.grad.item(), dropped.grad) == (4.0, 2.0, None)


def test_weights_without_a_term_do_not_matter():
    assert float(weighted_sum({"a": torch.tensor(2.0)}, {"a": 3.0, "b": 7.0})) == 6.0
