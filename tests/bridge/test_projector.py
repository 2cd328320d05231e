from __future__ import annotations

import pytest
import torch
from torch import nn

from bridge.projector import Projector
from tests.bridge.conftest import unit_rows

SHAPES = ("mlp2", "mlp1", "linear")


def make(shape: str = "mlp2", *, inputs=12, outputs=8, hidden=16, seed=0) -> Projector:
    generator = torch.Generator().manual_seed(seed)
    return Projector(shape, inputs=inputs, outputs=outputs, hidden=hidden, generator=generator)


def described(projector: Projector) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (type(layer).__name__, tuple(layer.weight.shape) if hasattr(layer, "weight") else ())
        for layer in projector.layers
    ]


def test_mlp2_is_the_published_projector_of_clip_and_clap():
    assert described(make("mlp2", inputs=512, outputs=512, hidden=1024)) == [
        ("Linear", (1024, 512)),
        ("BatchNorm", (1024,)),
        ("ReLU", ()),
        ("Linear", (512, 1024)),
        ("BatchNorm", (512,)),
    ]


def test_mlp1_is_the_published_projector_of_clip_and_ulip():
    assert described(make("mlp1", inputs=512, outputs=512)) == [
        ("Linear", (512, 512)),
        ("BatchNorm", (512,)),
        ("ReLU", ()),
    ]


def test_linear_is_one_matrix():
    projector = make("linear").eval()
    assert [name for name, _ in projector.named_parameters()] == ["layers.0.weight"]
    rows = unit_rows(5, 12, dtype=torch.float32)
    expected = nn.functional.normalize(rows @ projector.layers[0].weight.T, dim=-1)
    torch.testing.assert_close(projector(rows), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_unit_vectors_of_the_shared_width(shape, training):
    projected = make(shape).train(training)(unit_rows(20, 12, dtype=torch.float32))
    assert projected.shape == (20, 8)
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(20))


def test_mlp1_outputs_are_not_negative_and_the_others_are_of_both_signs():
    rows = unit_rows(50, 12, dtype=torch.float32)
    smallest = {shape: make(shape)(rows).min().item() for shape in SHAPES}
    assert smallest["mlp1"] == 0
    assert smallest["mlp2"] < 0
    assert smallest["linear"] < 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_generator_decides_the_weights(shape):
    first, same, other = make(shape, seed=1), make(shape, seed=1), make(shape, seed=2)
    for name, tensor in first.named_parameters():
        assert torch.equal(tensor, same.get_parameter(name))
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_initial_weights_are_uniform_within_one_over_the_root_of_the_inputs():
    weight = make(inputs=100, hidden=200).layers[0].weight
    assert weight.abs().max().item() <= 0.1
    assert weight.var().item() == pytest.approx(0.2**2 / 12, rel=0.03)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_global_generator_stays_untouched(shape):
    before = torch.get_rng_state()
    make(shape)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_an_offset_centring_changes_nothing():
    rows = unit_rows(5, 12, dtype=torch.float32)
    torch.testing.assert_close(make().centred(rows), rows)


def test_centring_puts_the_mean_at_the_origin_and_normalises_again():
    projector, rows = make(), unit_rows(30, 12, dtype=torch.float32) + 2
    projector.centre_on(rows)
    torch.testing.assert_close(projector.offset, rows.mean(dim=0))
    expected = nn.functional.normalize(rows - rows.mean(dim=0), dim=-1)
    torch.testing.assert_close(projector.centred(rows), expected)
    assert "offset" in projector.state_dict()


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_layers_are_close_to_fp32_and_give_float32(shape):
    projector, rows = make(shape, hidden=64), unit_rows(40, 12, dtype=torch.float32)
    exact = projector(rows)
    projector.bf16 = True
    rough = projector(rows)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert float((rough * exact).sum(dim=1).min()) > 0.999


def test_what_is_measured_is_in_full_precision_whatever_training_is():
    rows = unit_rows(50, 16, seed=1).float()
    projector = Projector(
        "mlp2", inputs=16, outputs=8, hidden=32, generator=torch.Generator().manual_seed(0)
    ).eval()
    with torch.no_grad():
        exact = projector(rows)
        projector.bf16 = True
        assert torch.equal(projector(rows), exact)
        assert not torch.equal(projector.train()(rows), projector.eval()(rows))
