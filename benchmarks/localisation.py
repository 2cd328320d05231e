"""Where in a larger picture is the number that a sound dials? With LMI and without.

    mcr demo --out runs/demo
    python -m benchmarks localisation --keypad runs/demo

Pictures of 64 x 128 pixels show two handwritten numbers that nothing was trained on, at random
places. Windows of the encoder's size slide over them; a cell of 8 x 8 pixels has the mean embedding
of the patches that show it, and its cosine with the sound is the map. Pointing: the highest cell
is in the number's box. cIoU: of the box and what is above half of the map's range, by pixels. AUC:
the area under the share of pictures whose cIoU is at least 0, 0.05, ... 1.

Prints Markdown, and adds a line of JSON to --json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import auc
from torch import Tensor

from benchmarks.kept import place, working_folder
from benchmarks.machine import machine
from benchmarks.parts import PartedTask, parted_tasks
from bridge.artefact import Bridge
from bridge.config import TrainSettings
from bridge.training.train import train
from features import keypad
from features.encoders.mini.encoder import MiniEncoder, load_builtin_clap, load_builtin_clip
from features.encoders.mini.inputs import audio_input

HEIGHT, WIDTH, CELL = 64, 128, 8  # pixels
INK = 90  # grey level that noise does not reach
STRIDE = 8  # pixels between windows
GLOBAL = TrainSettings(dimension=128, hidden=256)
LMI: dict[str, Any] = {
    "objective": "tcl",
    "cma_weight": 0.0,
    "imc_weight": 0.0,
    "lmi_weight": 1.0,
    "local_batch": 64,
    "tcl_momentum": 0.9,  # 600 steps are few for the published 0.995
}
CONFIGURATIONS = {
    "C-MCR": GLOBAL,
    "C-MCR + LMI": replace(GLOBAL, **LMI),
}
LIMITS = np.linspace(0, 1, 21)
COLUMNS = ("pointing", "mean cIoU", "AUC")


@dataclass(frozen=True)
class Scenes:
    """Pictures as cells, (n, rows, columns, d), the sounds (n, e) and the numbers' boxes.

    boxes: (n, 4), top, left, bottom, right in pixels, the latter two past the end.
    """

    cells: Tensor
    sounds: Tensor
    boxes: NDArray[np.int64]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keypad", type=Path, required=True, help="output of `mcr demo`")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--work", type=Path, help="keep the bridges here, to continue after a stop")
    parser.add_argument("--json", type=Path, help="add the result to this file")
    options = parser.parse_args()
    task = parted_tasks(options.keypad)[0]
    scenes = draw_scenes(options.pictures)
    print(f"{machine()}\n\n| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    with working_folder(options.work) as work:
        for name in options.only:
            figures = [
                _measure(
                    task, replace(CONFIGURATIONS[name], seed=seed), scenes, place(work, name, seed)
                )
                for seed in options.seeds
            ]
            cells = [_cell(column) for column in zip(*figures, strict=True)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
            if options.json:
                told = {"configuration": name, "seeds": options.seeds, "figures": figures}
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(told) + "\n")


def draw_scenes(count: int, seed: int = 0) -> Scenes:
    """Pictures with the number that their sound dials and another one, embedded."""
    rng = np.random.default_rng(seed)
    clip = load_builtin_clip("", device="cpu", precision="fp32")
    clap = load_builtin_clap("", device="cpu", precision="fp32")
    names = [number for number in keypad.numbers("test") if len(number) == 3]
    cells, sounds, boxes = [], [], []
    for _ in range(count):
        wanted, other = rng.choice(names, 2, replace=False)
        picture, box = _scene(str(wanted), str(other), rng)
        cells.append(_cells(picture, clip))
        sounds.append(audio_input(keypad.sound(str(wanted), rng), clap.config))
        boxes.append(box)
    return Scenes(torch.stack(cells), clap.encode(sounds, "audio"), np.array(boxes))


def _scene(
    wanted: str, other: str, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """One number in the left half, one in the right, either first; the box of the wanted one."""
    canvas = np.clip(rng.normal(0, 6, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8)
    tall, wide = keypad.IMAGE_HEIGHT, keypad.IMAGE_WIDTH
    sides = rng.permutation([0, WIDTH - wide])
    tops = rng.integers(0, HEIGHT - tall + 1, 2)
    box = (0, 0, 0, 0)
    for number, left, top in zip((wanted, other), sides, tops, strict=True):
        drawn = keypad.image(number, "test", rng)
        window = canvas[top : top + tall, left : left + wide]
        np.maximum(window, drawn, out=window)
        if number == wanted:
            rows, columns = np.nonzero(drawn > INK)
            box = (
                int(top + rows.min()), int(left + columns.min()),
                int(top + rows.max()) + 1, int(left + columns.max()) + 1,
            )  # fmt: skip
    return canvas, box


def _cells(picture: NDArray[np.uint8], clip: MiniEncoder) -> Tensor:
    """Mean embeddings of the patches that show each cell, (rows, columns, d), unit again."""
    tall, wide = clip.config.image_height, clip.config.image_width
    corners = [
        (top, left)
        for top in range(0, HEIGHT - tall + 1, STRIDE)
        for left in range(0, WIDTH - wide + 1, STRIDE)
    ]
    windows = [picture[top : top + tall, left : left + wide] for top, left in corners]
    parts = clip.encode_local(windows, "image").local
    parts = parts.view(len(windows), tall // CELL, wide // CELL, -1)
    total = torch.zeros(HEIGHT // CELL, WIDTH // CELL, parts.shape[-1])
    for (top, left), embedded in zip(corners, parts, strict=True):
        row, column = top // CELL, left // CELL
        total[row : row + tall // CELL, column : column + wide // CELL] += embedded
    return torch.nn.functional.normalize(total, dim=-1)


def _measure(
    task: PartedTask, settings: TrainSettings, scenes: Scenes, out: Path
) -> tuple[float, float, float]:
    """Pointing, mean cIoU and AUC."""
    made = train(task.hub, task.leaf, out, settings, device="cpu", resume=True)
    maps = similarity_maps(made, scenes)
    found = [ciou(one, box) for one, box in zip(maps, scenes.boxes, strict=True)]
    shares = [np.mean(np.array(found) >= limit) for limit in LIMITS]
    hits = [points_into(one, box) for one, box in zip(maps, scenes.boxes, strict=True)]
    return float(np.mean(hits)), float(np.mean(found)), float(auc(LIMITS, shares))


def similarity_maps(made: Bridge, scenes: Scenes) -> NDArray[np.float64]:
    """Cosines of each sound with the cells of its picture, (n, rows, columns)."""
    sounds = made.project(scenes.sounds, "mini-clap", "audio")
    shape = scenes.cells.shape
    cells = made.project(scenes.cells.flatten(0, 2), "mini-clip", "image").view(*shape[:3], -1)
    return torch.einsum("nd,nrcd->nrc", sounds, cells).double().numpy()


def points_into(one: NDArray[np.float64], box: Sequence[int]) -> bool:
    """Whether the middle of the highest cell lies in the box."""
    row, column = np.unravel_index(int(one.argmax()), one.shape)
    y, x = (row + 0.5) * CELL, (column + 0.5) * CELL
    return bool(box[0] <= y < box[2] and box[1] <= x < box[3])


def ciou(one: NDArray[np.float64], box: Sequence[int]) -> float:
    """`|P & G| / (|G| + |P - G|)` of the box G and what is above half of the map's range, P."""
    chosen = one >= (one.min() + one.max()) / 2
    pixels = np.kron(chosen, np.ones((CELL, CELL), dtype=bool))
    truth = np.zeros_like(pixels)
    truth[box[0] : box[2], box[1] : box[3]] = True
    return float((pixels & truth).sum() / (truth.sum() + (pixels & ~truth).sum()))


def _cell(figures: Sequence[float]) -> str:
    if len(figures) == 1:
        return f"{figures[0]:.3f}"
    return f"{np.mean(figures):.3f} ± {np.std(figures, ddof=1):.3f}"


if __name__ == "__main__":
    main()
