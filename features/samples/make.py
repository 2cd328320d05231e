"""Makes the clouds and the synthetic sounds among the samples: `python -m features.samples.make`.

Clouds are surfaces of boxes and of revolution, y upwards, as ShapeNet has them: (10000, 3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray

from features.samples import FOLDER

POINTS = 10_000
RATE, SECONDS = 16_000, 4
Cloud = NDArray[np.float64]


def box(
    centre: tuple[float, float, float], size: tuple[float, float, float], rng: Generator
) -> tuple[Cloud, float]:
    """Points on the faces of a box, and its area."""
    sides = np.array(size)
    areas = np.array([sides[1] * sides[2], sides[0] * sides[2], sides[0] * sides[1]])
    count = POINTS
    points = rng.uniform(-0.5, 0.5, (count, 3))
    axis = rng.choice(3, count, p=areas / areas.sum())
    points[np.arange(count), axis] = rng.choice([-0.5, 0.5], count)
    return points * sides + np.array(centre), float(2 * areas.sum())


def revolved(
    profile: list[tuple[float, float]], rng: Generator, *, axis: int = 1
) -> tuple[Cloud, float]:
    """Points on a surface of revolution; profile: (position on the axis, radius)."""
    line = np.array(profile)
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    areas = lengths * (line[1:, 1] + line[:-1, 1]) / 2
    part = rng.choice(len(areas), POINTS, p=areas / areas.sum())
    along, angle = rng.random(POINTS), rng.uniform(0, 2 * np.pi, POINTS)
    position = line[part] + (line[part + 1] - line[part]) * along[:, None]
    round_ = [position[:, 1] * np.cos(angle), position[:, 1] * np.sin(angle)]
    columns = [*round_[:axis], position[:, 0], *round_[axis:]]
    return np.stack(columns, axis=1), float(2 * np.pi * areas.sum())


def joined(parts: list[tuple[Cloud, float]], rng: Generator) -> NDArray[np.float16]:
    """Points spread evenly over all surfaces."""
    areas = np.array([area for _, area in parts])
    part = rng.choice(len(parts), POINTS, p=areas / areas.sum())
    clouds = np.stack([cloud for cloud, _ in parts])
    return np.asarray(clouds[part, np.arange(POINTS)], dtype=np.float16)


def chair(rng: Generator) -> NDArray[np.float16]:
    """Seat, back and four legs."""
    legs = [box((x, -0.3, z), (0.05, 0.5, 0.05), rng) for x in (-0.22, 0.22) for z in (-0.22, 0.22)]
    seat, back = box((0, 0, 0), (0.5, 0.06, 0.5), rng), box((0, 0.33, -0.23), (0.5, 0.6, 0.05), rng)
    return joined([seat, back, *legs], rng)


def airplane(rng: Generator) -> NDArray[np.float16]:
    """Fuselage, wings, tail and two engines."""
    body = revolved([(-0.5, 0.02), (-0.3, 0.06), (0.35, 0.06), (0.5, 0.005)], rng, axis=2)
    wings = box((0, -0.01, 0.03), (1.0, 0.015, 0.16), rng)
    tail = box((0, 0.02, -0.44), (0.36, 0.01, 0.1), rng)
    fin = box((0, 0.12, -0.44), (0.012, 0.18, 0.1), rng)
    engines = []
    for x in (-0.22, 0.22):
        cloud, area = revolved([(-0.06, 0.03), (0.08, 0.03)], rng, axis=2)
        engines.append((cloud + np.array([x, -0.05, 0.08]), area))
    return joined([body, wings, tail, fin, *engines], rng)


def bottle(rng: Generator) -> NDArray[np.float16]:
    """Body, shoulder, neck and cap."""
    profile = [(-0.5, 0.0), (-0.5, 0.16), (0.1, 0.16), (0.25, 0.06), (0.45, 0.05), (0.45, 0.06),
               (0.5, 0.06), (0.5, 0.0)]  # fmt: skip
    return joined([revolved(profile, rng)], rng)


def beeps() -> NDArray[Any]:
    """Four pairs of short tones a second, as an alarm clock has them."""
    time = np.arange(RATE * SECONDS) / RATE
    on = (time % 1 < 0.5) & (time % 0.25 < 0.12)
    return np.asarray(0.5 * np.sign(np.sin(2 * np.pi * 2000 * time)) * on)


def noise(rng: Generator) -> NDArray[Any]:
    """White noise."""
    return rng.normal(0, 0.15, RATE * SECONDS).clip(-1, 1)


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    for make in (chair, airplane, bottle):
        np.savez_compressed(FOLDER / f"{make.__name__}.npz", xyz=make(generator))
    soundfile.write(FOLDER / "beeps.ogg", beeps(), RATE)
    soundfile.write(FOLDER / "noise.ogg", noise(generator), RATE)
