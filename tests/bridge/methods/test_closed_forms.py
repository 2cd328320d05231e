from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bridge.methods import closed_forms
from bridge.methods.closed_forms import MINIMUM_ITEMS, Alignment, cca, procrustes, ridge

METHODS: dict[str, Callable[..., Alignment]] = {
    "procrustes": procrustes,
    "ridge, left": lambda left, right, **more: ridge(
        left, right, penalty=0.1, direction="left", **more
    ),
    "ridge, right": lambda left, right, **more: ridge(
        left, right, penalty=0.1, direction="right", **more
    ),
    "cca": lambda left, right, **more: cca(left, right, penalty=0.1, **more),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def gaussian(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(dim=0)


def spaces(n: int, d1: int, d2: int, *, noise: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Centred rows of two spaces that share four dimensions of meaning, stretched unevenly."""
    meaning = gaussian(n, 4, seed=seed) * torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    left = meaning @ gaussian(4, d1, seed=seed + 1) + noise * gaussian(n, d1, seed=seed + 2)
    right = meaning @ gaussian(4, d2, seed=seed + 3) + noise * gaussian(n, d2, seed=seed + 4)
    return centred(left), centred(right)


def rotation(d1: int, d2: int, *, seed: int) -> Tensor:
    """(d1, d2) with orthonormal rows."""
    return torch.linalg.qr(gaussian(d2, d1, seed=seed)).Q.T


def recalls(left: Tensor, right: Tensor) -> tuple[float, float]:
    """R@1 of right -> left and of left -> right, as `benchmarks.vggsound309` has it."""
    scores = normalize(right, dim=1) @ normalize(left, dim=1).T
    partner = torch.arange(len(scores))
    forward, backward = ((scores.argmax(dim=dim) == partner).double().mean() for dim in (1, 0))
    return float(forward), float(backward)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=1e-6)


@every_method
@pytest.mark.parametrize("n", [10, 60], ids=["fewer items than dimensions", "more items"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_held_out_items_of_a_rotated_space_are_all_found(method, n, dtype):
    meaning = gaussian(n + 40, 8, seed=1)
    left = (meaning @ rotation(8, 16, seed=2)).to(dtype)
    right = meaning @ rotation(8, 24, seed=3) + 0.01 * gaussian(n + 40, 24, seed=4)
    right = right.to(dtype)
    w_left, w_right = method(left[:n], right[:n], dimension=8)
    assert recalls(left[n:] @ w_left.to(dtype), right[n:] @ w_right.to(dtype)) == (1.0, 1.0)


@every_method
@pytest.mark.parametrize("n", [7, 60])
def test_matrices_are_float32_and_the_same_bits_every_time(method, n):
    left, right = (rows.float() for rows in spaces(n, 12, 9))
    found = method(left, right, dimension=5)
    assert [one.shape for one in found] == [(12, 5), (9, 5)]
    assert all(one.dtype == torch.float32 and one.is_contiguous() for one in found)
    for again in ((left.clone(), right.clone()), (left.double(), right.double())):
        for one, other in zip(found, method(*again, dimension=5), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("n", [7, 60])
def test_the_sign_of_a_direction_does_not_depend_on_the_sign_of_the_rows(n):
    left, right = spaces(n, 12, 9)
    for method, side in (("procrustes", 0), ("cca", 0), ("ridge, left", 0), ("ridge, right", 1)):
        plain = METHODS[method](left, right, dimension=3)
        mirrored = METHODS[method](-left, right, dimension=3)
        assert (plain[side].gather(0, plain[side].abs().argmax(dim=0)[None]) > 0).all()
        close(mirrored[side], plain[side])
        close(mirrored[1 - side], -plain[1 - side])


@every_method
def test_a_narrower_shared_space_is_the_first_columns_of_a_wider_one(method):
    left, right = spaces(60, 12, 9)
    narrow, wide = (method(left, right, dimension=e) for e in (3, 9))
    for one, other in zip(narrow, wide, strict=True):
        close(one, other[:, :3])


@every_method
def test_no_direction_is_made_up_where_items_span_fewer(method):
    left, right = spaces(6, 12, 9)
    w_left, w_right = method(left, right, dimension=12)
    assert (w_left.shape[1], w_right.shape[1]) == (5, 5)  # 6 items about their mean
    for rows, matrix in ((left, w_left), (right, w_right)):
        span = torch.linalg.pinv(rows, rtol=1e-9) @ rows
        close(span @ matrix.double(), matrix)


@pytest.mark.parametrize("method", ["procrustes", "cca"])
def test_directions_that_only_one_side_has_are_not_paired(method):
    items = torch.linalg.qr(gaussian(60, 8, seed=1)).Q
    left, right = items[:, :5] @ gaussian(5, 12, seed=2), items[:, 3:] @ gaussian(5, 9, seed=3)
    w_left, w_right = METHODS[method](left, right, dimension=9)
    assert (w_left.shape, w_right.shape) == ((12, 2), (9, 2))


@every_method
def test_float32_rounding_of_centred_items_is_no_direction(method):
    left, right = (rows + 1 for rows in spaces(8, 12, 10, noise=1.0))
    w_left, _ = method(centred(left.float()), centred(right.float()), dimension=12)
    assert w_left.shape[1] == 7


@every_method
def test_two_items_are_enough_and_one_is_not(method):
    left, right = gaussian(2, 5, seed=1), gaussian(2, 4, seed=2)
    w_left, w_right = method(centred(left), centred(right), dimension=4)
    assert recalls(centred(left).float() @ w_left, centred(right).float() @ w_right) == (1.0, 1.0)
    one = MINIMUM_ITEMS - 1
    w_left, w_right = method(centred(left[:one]), centred(right[:one]), dimension=4)
    assert (w_left.shape, w_right.shape) == ((5, 0), (4, 0))


@every_method
@pytest.mark.parametrize("n", [3, 30])
def test_items_that_are_all_equal_on_one_side_speak_for_no_direction(method, n):
    left = gaussian(n, 5, seed=1)
    for pair in ((left, torch.zeros(n, 4)), (torch.zeros(n, 4), left)):
        w_left, w_right = method(*pair, dimension=4)
        assert not (w_left.any() and w_right.any())


@every_method
def test_items_given_twice_change_nothing(method):
    left, right = spaces(8, 12, 9)  # 16 rows are more than the dimensions, 8 are fewer
    once = method(left, right, dimension=4)
    twice = method(left.repeat(2, 1), right.repeat(2, 1), dimension=4)
    for one, other in zip(once, twice, strict=True):
        close(normalize(one, dim=0), normalize(other, dim=0))


@every_method
def test_the_unit_of_length_does_not_matter(method):
    left, right = spaces(20, 12, 9)
    plain = method(left, right, dimension=6)
    scaled = method(left * 1000, right / 1000, dimension=6)
    for one, other in zip(plain, scaled, strict=True):
        close(normalize(one, dim=0), normalize(other, dim=0))


@every_method
def test_blocks_of_rows_add_up(monkeypatch, method):
    left, right = spaces(60, 12, 9)
    whole = method(left, right, dimension=6)
    monkeypatch.setattr(closed_forms, "_BLOCK", 7)
    for one, other in zip(whole, method(left, right, dimension=6), strict=True):
        close(one, other)


@every_method
def test_sides_with_different_numbers_of_items_are_refused(monkeypatch, method):
    monkeypatch.setattr(closed_forms, "_BLOCK", 8)
    left, right = spaces(24, 7, 6)
    for rows in (16, 20):
        with pytest.raises((RuntimeError, ValueError)):
            method(left[:rows], right, dimension=6)


# Of folds 0, CLAP -> CLIP and CLIP -> CLAP. Ridge maps the gallery into the query's space.
BARS = {"procrustes": (0.68, 0.71), "ridge": (0.71, 0.73), "cca": (0.74, 0.73)}


@pytest.mark.real_data
@pytest.mark.parametrize("name", BARS)
def test_names_are_found_between_published_spaces(vggsound_file: Path, name):
    data = np.load(vggsound_file)
    clip, clap = (torch.from_numpy(data[space]).float() for space in ("clip", "clap"))
    order = np.random.default_rng(0).permutation(len(clip))
    figures = []
    for fold in np.array_split(order, 5):
        fit = np.setdiff1d(order, fold)
        left, right = (rows - rows[fit].mean(dim=0) for rows in (clip, clap))
        hub, more = (left[fit], right[fit]), {"dimension": 512}
        if name == "procrustes":
            pairs = [procrustes(*hub, **more)] * 2
        elif name == "cca":
            pairs = [cca(*hub, penalty=5, **more)] * 2
        else:
            sides = ("right", "left")
            pairs = [ridge(*hub, penalty=3, direction=side, **more) for side in sides]
        found = [recalls(left[fold] @ w_left, right[fold] @ w_right) for w_left, w_right in pairs]
        figures.append((found[0][0], found[1][1]))
    forward, backward = np.mean(figures, axis=0)
    assert forward >= BARS[name][0]
    assert backward >= BARS[name][1]
