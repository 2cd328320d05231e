"""Projectors that begin where a closed form ends, instead of at random weights.

A linear projector takes the closed form's matrix `w`. One of two layers computes the same: its
first `2 e` hidden units are `w x` and `-w x`, whose rectified difference is `w x` again, and its
normalisations give back the means and deviations that they take away.

Axes: n rows, d dimensions of the frozen space, e of the shared one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bridge.config import TrainSettings
from bridge.methods.closed import solve
from bridge.projector import Projector
from bridge.training.noise import add_noise
from bridge.training.training_set import TrainingSet

_ROWS = 8192  # of each table, enough for means and deviations


@torch.no_grad()
def start_from_closed_form(
    projectors: dict[str, Projector], data: TrainingSet, settings: TrainSettings
) -> None:
    """Set the weights of `projectors` to compute the closed form that the settings start from.

    projectors: linear or mlp2, their offsets set. data: its rows as projectors take them.
    Raises UserError if the hub items are too few for it.
    """
    closed = solve(
        data.frozen,
        TrainSettings(
            method=settings.start,
            centring=settings.means,
            dimension=settings.dimension,
            seed=settings.seed,
        ),
    )
    noise = torch.Generator(next(iter(projectors.values())).offset.device)
    noise.manual_seed(settings.seed)
    for space, projector in projectors.items():
        found = closed[space].layers[0].weight
        first = projector.eval().layers[0]
        assert isinstance(first, nn.Linear)
        assert isinstance(found, Tensor)
        # As large as random weights would be: the learning rate suits these.
        size = (first.weight.square().mean() / found.square().mean()).sqrt()
        matrix = found.new_zeros(settings.dimension, found.shape[1])
        matrix[: len(found)] = size * found
        if projector.spec.shape == "linear":
            first.weight.copy_(matrix)
            continue
        seen = [
            add_noise(table[:_ROWS], variance=settings.noise_variance, generator=noise)
            for table in data.rows[space].values()
        ]
        _begin_two_layers(projector.layers, matrix, torch.cat(seen))


def _begin_two_layers(
    layers: nn.Sequential, matrix: Float[Tensor, "e d"], rows: Float[Tensor, "n d"]
) -> None:
    """Make Linear, BatchNorm, ReLU, Linear, BatchNorm compute `rows @ matrix.T`, and a scale."""
    first, second = layers[0], layers[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    e = len(matrix)
    first.weight[: 2 * e] = torch.cat([matrix, -matrix])
    first.bias[: 2 * e] = 0
    second.weight.zero_()
    second.weight[:, : 2 * e] = torch.cat([torch.eye(e), -torch.eye(e)], dim=1)
    second.bias.zero_()
    for place in (1, 4):
        _undo(layers[place], layers[:place](rows))


def _undo(normalisation: nn.Module, inputs: Float[Tensor, "n c"]) -> None:
    """Make BatchNorm give back what it takes away from such inputs, times one scale."""
    assert isinstance(normalisation, nn.BatchNorm1d)
    variance, mean = torch.var_mean(inputs, dim=0)
    assert normalisation.running_mean is not None
    assert normalisation.running_var is not None
    normalisation.running_mean.copy_(mean)
    normalisation.running_var.copy_(variance)
    deviation = (variance + normalisation.eps).sqrt()
    scale = deviation.square().mean().rsqrt()
    normalisation.weight.copy_(scale * deviation)
    normalisation.bias.copy_(scale * mean)
