from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bridge.training.layers import Linear, unit
from tests.bridge.conftest import unit_rows


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "i", "o"), [(1, 3, 2), (9, 4, 6), (2048, 64, 1024)])
def test_linear_is_torchs(n, i, o, bias):
    torch_own, ours = nn.Linear(i, o, bias=bias), Linear(i, o, bias=bias)
    ours.load_state_dict(torch_own.state_dict())
    results = []
    for layer in (torch_own, ours):
        rows = unit_rows(n, i, dtype=torch.float32).requires_grad_()
        made = layer(rows)
        (made * unit_rows(n, o, seed=3, dtype=torch.float32)).sum().backward()
        results.append([made.detach(), rows.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_the_gradient_of_linear_is_that_of_its_value(bias):
    layer = Linear(4, 3, bias=bias).double()
    rows = unit_rows(5, 4).requires_grad_()
    given = (rows, *layer.parameters())

    def through(rows: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        names = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        result: torch.Tensor = torch.func.functional_call(layer, names, rows)
        return result

    assert torch.autograd.gradcheck(through, given)


def test_linear_gives_bfloat16_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(4, 3)(unit_rows(5, 4, dtype=torch.float32)).dtype == torch.bfloat16


def test_unit_rows_and_their_gradient_are_torchs():
    rows = torch.cat([3 * unit_rows(6, 5), torch.zeros(1, 5, dtype=torch.float64)])
    weights, results = unit_rows(7, 5, seed=4), []
    weights[-1] = 0
    for function in (unit, lambda x: F.normalize(x, dim=1)):
        given = rows.clone().requires_grad_()
        made = function(given)
        (made * weights).sum().backward()
        results.append((made.detach(), given.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_the_gradient_of_unit_is_that_of_its_value():
    assert torch.autograd.gradcheck(unit, (2 * unit_rows(4, 3).requires_grad_(),))


def test_half_precision_becomes_unit_in_float32():
    made = unit(unit_rows(4, 3).bfloat16() * 7)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.norm(dim=1), torch.ones(4))
