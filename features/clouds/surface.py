"""Points on the surface of triangles, evenly by area, and always the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from features.clouds.cloud import Cloud
from features.errors import ItemError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# From triangles (m,) and the weights (m, 3) of their corners to colours (m, 3).
Colours = Callable[["NDArray[np.intp]", "NDArray[np.float64]"], "NDArray[np.uint8]"]

_SEED = 0  # one for all files: a mesh's points depend on the mesh and their number alone
_WHITE = 255  # the colour that glTF gives to a surface that says nothing of its own


@dataclass(frozen=True)
class Surface:
    """Triangles (t, 3 corners, 3 coordinates), and the colours of their points, if any."""

    triangles: NDArray[np.float64]
    colours: Colours | None = None


def sample_surfaces(surfaces: Sequence[Surface], count: int) -> Cloud:
    """`count` points, uniform by area over all surfaces together, in random order.

    Colours where any surface has them; the others are then white. Raises ItemError.
    """
    triangles = np.concatenate([np.empty((0, 3, 3)), *(one.triangles for one in surfaces)])
    chosen, weights = _draw(triangles, count)
    xyz = np.einsum("nk,nkd->nd", weights, triangles[chosen])
    if all(one.colours is None for one in surfaces):
        return Cloud(xyz)
    rgb = np.full((count, 3), _WHITE, dtype=np.uint8)
    start = 0
    for surface in surfaces:
        stop = start + len(surface.triangles)
        mine = (chosen >= start) & (chosen < stop)
        if surface.colours is not None and mine.any():
            rgb[mine] = surface.colours(chosen[mine] - start, weights[mine])
        start = stop
    return Cloud(xyz, rgb)


def corner_colours(rgb: NDArray[np.float64]) -> Colours:
    """Colours between those of the corners, (t, 3 corners, 3 channels) in 0 to 255."""

    def between(chosen: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.uint8]:
        mixed = np.einsum("nk,nkd->nd", weights, rgb[chosen])
        return np.asarray(mixed.round().clip(0, _WHITE), dtype=np.uint8)

    return between


def fan(polygons: NDArray[Any]) -> NDArray[np.int64]:
    """Triangles (t, 3) of convex polygons (n, k) that are rows of vertex numbers."""
    steps = range(1, polygons.shape[1] - 1)
    triangles = [polygons[:, [0, step, step + 1]] for step in steps]
    return np.asarray(np.concatenate([np.empty((0, 3), np.int64), *triangles]), dtype=np.int64)


def corners(values: NDArray[Any], triangles: NDArray[Any]) -> NDArray[np.float64]:
    """Rows of `values` (n, d) at the triangles' corners: (t, 3, d). Raises ItemError."""
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(values):
        raise ItemError(f"the mesh has {len(values)} vertices, and a face that names another")
    return np.asarray(values[triangles], dtype=np.float64)


def _draw(
    triangles: NDArray[np.float64], count: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Triangles (count,) by area and, for each, the weights (count, 3) of its corners."""
    if not len(triangles):
        raise ItemError("the mesh has no faces")
    bad = int((~np.isfinite(triangles).all(axis=(1, 2))).sum())
    if bad:
        raise ItemError(f"{bad} of {len(triangles)} triangles have NaN or infinite corners")
    first, second, third = triangles.transpose(1, 0, 2)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        areas = np.linalg.norm(np.cross(second - first, third - first), axis=1)
        upto = np.cumsum(areas)
    if not (np.isfinite(upto[-1]) and upto[-1] > 0):
        raise ItemError(f"the surface of the mesh has no usable area ({upto[-1] / 2})")
    random = np.random.default_rng(_SEED).random((3, count))
    chosen = np.searchsorted(upto, random[0] * upto[-1], side="right")
    chosen[chosen == len(areas)] -= 1  # where the product was rounded up to the whole area
    # The square root makes points uniform within a triangle: Osada et al., 2002, eq. 1.
    far = np.sqrt(random[1])
    return chosen, np.stack([1 - far, far * (1 - random[2]), far * random[2]], axis=1)
