"""The published size, all on one device: pseudo pairs of both leaf memories, and 36 epochs.

python -m benchmarks full_size
python -m benchmarks full_size --device cpu --scale 0.01

2.33M texts, 1.3M images and 1.8M sounds, random in 1,000 clusters, 512 dimensions, made on the
device; batches of 10,240. The goals on one GPU of the H200's class: 120 seconds in all, and pseudo
pairs and steps at half of the rate of bfloat16 products or more. Without a CUDA device it runs with
a 400th of the items, and says so; batches shrink with the root of the scale.

Floors are of operations at the rate of `torch.mm` in bfloat16, or of bytes at the rate of a copy,
whichever takes longer, both measured in the same run. A pseudo pair takes two products with all of
a memory; a step those of its projectors and of two matrices of logits, forward and backward, and
the traffic of its rows, of what its layers give, once each way, and of its weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.machine import machine, medians
from benchmarks.report import parser, report
from bridge.config import TrainSettings
from bridge.pseudo_pairs.exact import retrieve
from bridge.pseudo_pairs.fused import fits_fused, retrieve_fused
from bridge.pseudo_pairs.sparse import retrieve_sparse
from bridge.runs.layout import METRICS_FILE
from bridge.training.leaf_rows import LeafRows, loaded
from bridge.training.run import Run
from bridge.training.training_set import FrozenRows, TrainingSet, build_training_set
from features.device import resolve_device
from features.progress import SILENT, Advance

TEXTS, IMAGES, SOUNDS = 2_330_000, 1_300_000, 1_800_000
BATCH, EPOCHS, HELD_OUT = 10_240, 36, 4096
SMALL = 1 / 400  # of the items, where no GPU is
CLUSTERS, SPREAD, MADE = 1000, 0.8, 65_536  # as in benchmarks.clusters; rows made at once
TEMPERATURE = 0.01
GOAL_SECONDS, GOAL_SHARE = 120, 0.5
T = TypeVar("T")


def main() -> None:
    """Print the device's rates, ways of retrieval, and the breakdown beside its floors."""
    options = parser(__doc__, repeats=3)
    options.add_argument("--scale", type=float, help="of the items; 1 on CUDA, else 1/400")
    options.add_argument("--device", default="auto")
    options.add_argument("--dimension", type=int, default=512)
    options.add_argument("--hidden", type=int, default=1024)
    options.add_argument("--epochs", type=int, default=EPOCHS)
    options.add_argument("--retrieval", default="auto", choices=("auto", "exact", "sparse"))
    arguments = options.parse_args()
    device = resolve_device(arguments.device)
    cuda = device.type == "cuda"
    scale = arguments.scale or (1.0 if cuda else SMALL)
    settings = _settings(arguments, scale)
    print(machine())
    print(torch.cuda.get_device_name(device) if cuda else "no CUDA device is used here")
    if scale != 1:
        print(f"SCALED DOWN to {scale:g} of the published size: no figure of the goals")
    rates = _Rates(device)
    print(f"torch.mm in bfloat16: {rates.operations / 1e12:.3g} TFLOP/s")
    print(f"copies: {rates.bytes / 1e9:.3g} GB/s, read and written")

    frozen, making = _seconds(lambda: _made(scale, arguments.dimension, device), device)
    _ways(frozen, arguments)
    clock = _Clock(device)
    data, pairing = _seconds(lambda: build_training_set(frozen, settings, progress=clock), device)
    _check(frozen, data)
    epochs = _train(data, settings, device)
    whole = pairing + epochs["in all"]
    seconds = {
        "pseudo pairs and epochs": whole,
        **clock.spent,
        "epochs": epochs["in all"],
        "of them, steps": epochs["steps"],
        "making data, apart": making,
    }
    floors = _floors(frozen, settings, len(data), rates)
    sizes = {
        "scale": f"{scale:g}",
        "hub": len(data),
        **{f"{space}'s leaf": len(rows) for space, rows in frozen.leaf.items()},
        "batch": settings.batch_for(len(data)),
        "epochs": settings.epochs,
        "rows": str(next(iter(frozen.hub.values())).dtype).removeprefix("torch."),
    }
    report(
        "Full size" if scale == 1 else "Full size, scaled down",
        seconds,
        ours="pseudo pairs and epochs",
        sizes=sizes,
        notes={
            "floor": {name: f"{floor:.3g} s" for name, floor in floors.items()},
            "of the floor's rate": {
                name: f"{floor / seconds[name]:.2f}" for name, floor in floors.items()
            },
        },
        json_file=arguments.json,
    )
    if cuda:
        print(
            f"memory of the GPU at most: {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB"
        )
    if scale == 1:
        print(f"goals: {GOAL_SECONDS} s in all, {GOAL_SHARE} of the rate in every line")


def _settings(arguments: argparse.Namespace, scale: float) -> TrainSettings:
    return TrainSettings(  # of the published recipe
        dimension=arguments.dimension,
        hidden=arguments.hidden,
        epochs=arguments.epochs,
        batch=max(64, round(BATCH * scale**0.5)),
        retrieval=arguments.retrieval,
        precision="bf16",
    )


class _Rates:
    """What the device does at best: operations of products in bfloat16, and bytes of copies."""

    def __init__(self, device: torch.device) -> None:
        side, copied = (8192, 2**30) if device.type == "cuda" else (2048, 2**27)
        left = torch.randn(side, side, device=device).bfloat16()
        source = torch.zeros(copied, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        times = 10
        seconds = medians(
            {
                "mm": lambda: _waiting([left @ left for _ in range(times)], device),
                "copy": lambda: _waiting([target.copy_(source) for _ in range(times)], device),
            }
        )
        self.operations = times * 2 * side**3 / seconds["mm"]
        self.bytes = times * 2 * copied / seconds["copy"]

    def floor(self, operations: float, bytes_moved: float) -> float:
        """Seconds below which the device cannot do them."""
        return max(operations / self.operations, bytes_moved / self.bytes)


def _floors(
    frozen: FrozenRows, settings: TrainSettings, items: int, rates: _Rates
) -> dict[str, float]:
    floors = {}
    for space, leaf in loaded(frozen.leaf).items():
        hub, d = len(frozen.hub[space]), leaf.shape[1]
        moved = leaf.element_size() * d * (2 * hub + len(leaf))
        floors[_task(space)] = rates.floor(4 * hub * len(leaf) * d, moved)
    d, h, e = next(iter(frozen.hub.values())).shape[1], settings.hidden, settings.dimension
    batch = settings.batch_for(items)
    rows = 4 * batch  # hub and leaf of two spaces
    # Every layer's product three times, but no gradient goes into the rows themselves.
    layers = 2 * rows * (3 * (d * h + h * e) - d * h)
    logits = 2 * 3 * 2 * batch**2 * e
    given = 2 * rows * (d + 2 * (h + e) * 2)  # bytes in half precision, written and read, two ways
    weights = 7 * 4 * 2 * (d * h + h * e)  # AdamW reads four numbers and writes three
    step = rates.floor(layers + logits, given + weights)
    floors["of them, steps"] = step * settings.epochs * items / batch
    floors["pseudo pairs and epochs"] = sum(floors.values())
    return floors


def _made(scale: float, dimension: int, device: torch.device) -> FrozenRows:
    """Texts in both spaces, images in one and sounds in the other, of the same clusters."""
    make = torch.Generator(device).manual_seed(0)
    half = device.type == "cuda"
    texts, images, sounds = (round(scale * count) for count in (TEXTS, IMAGES, SOUNDS))
    own = {
        name: torch.randint(CLUSTERS, (count,), generator=make, device=device)
        for name, count in (("text", texts + HELD_OUT), ("image", images), ("sound", sounds))
    }
    hub: dict[str, Tensor] = {}
    leaf: dict[str, LeafRows] = {}
    for space, name in (("clip", "image"), ("clap", "sound")):
        centres = torch.randn(CLUSTERS, dimension, generator=make, device=device)
        centres = F.normalize(centres, dim=1)
        hub[space] = _clustered(centres, own["text"], make, half=half)
        leaf[space] = _clustered(centres, own[name], make, half=half)
    return FrozenRows(
        hub={space: rows[HELD_OUT:] for space, rows in hub.items()},
        held_out={space: rows[:HELD_OUT] for space, rows in hub.items()},
        leaf=leaf,
        modalities={
            "clip": {"hub": "text", "leaf": "image"},
            "clap": {"hub": "text", "leaf": "audio"},
        },
    )


def _clustered(centres: Tensor, own: Tensor, make: torch.Generator, *, half: bool) -> Tensor:
    dimension = centres.shape[1]
    dtype = torch.float16 if half else torch.float32
    rows = torch.empty(len(own), dimension, device=own.device, dtype=dtype)
    for start in range(0, len(own), MADE):
        part = own[start : start + MADE]
        noise = torch.randn(len(part), dimension, generator=make, device=own.device)
        noise.mul_(SPREAD / dimension**0.5).add_(centres[part])
        rows[start : start + MADE] = F.normalize(noise, dim=1)
    return rows


def _ways(frozen: FrozenRows, arguments: argparse.Namespace) -> None:
    """Retrieval of a few pseudo pairs in every way, to see whether the device's choice is right."""
    queries, memory = frozen.hub["clip"], loaded(frozen.leaf)["clip"]
    queries = queries[: 16_384 if queries.device.type == "cuda" else 1024].float()

    def fused() -> object:
        return retrieve_fused(queries, memory, temperature=TEMPERATURE)

    def product() -> None:
        few, many = queries.bfloat16(), memory.bfloat16()
        for part in torch.split(many, 65_536):
            few @ part.T

    ways: dict[str, Callable[[], object]] = {
        "exact": lambda: retrieve(queries, memory, temperature=TEMPERATURE),
        "q @ m.T, bfloat16": product,
    }
    if queries.device.type == "cpu":
        ways["sparse"] = lambda: retrieve_sparse(queries, memory, temperature=TEMPERATURE)
    if fits_fused(queries, memory, (memory,), temperature=TEMPERATURE):
        ways["fused"] = fused
    waited = {name: _synchronised(way, queries.device) for name, way in ways.items()}
    seconds = medians(waited, repeats=arguments.repeats)
    sizes = {"queries": len(queries), "items": len(memory)}
    ours = next(name for name in ("fused", "sparse", "exact") if name in ways)
    report("Ways of retrieval", seconds, ours=ours, sizes=sizes, json_file=arguments.json)


def _check(frozen: FrozenRows, data: TrainingSet) -> None:
    """Print the largest cosine error of some pseudo pairs, against the formula in float64."""
    for space, memory in loaded(frozen.leaf).items():
        worst = 0.0
        for row in range(0, len(data), -(-len(data) // 16)):
            scores = memory.double() @ frozen.hub[space][row].double()
            right = F.normalize(torch.softmax(scores / TEMPERATURE, 0) @ memory.double(), dim=0)
            found = F.normalize(data.rows[space]["leaf"][row].double(), dim=0)
            worst = max(worst, 1 - float(right @ found))
        print(f"cosine error of pseudo pairs in {space}: {worst:.1e}")


def _train(data: TrainingSet, settings: TrainSettings, device: torch.device) -> dict[str, float]:
    """Seconds of the whole, and of the steps alone, without log, held-out scores, checkpoints."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def fit() -> None:
            Run(folder, settings, data, {}, device).fit(SILENT)

        _, whole = _seconds(fit, device)
        lines = (folder / METRICS_FILE).read_text("utf-8").splitlines()
    return {"in all": whole, "steps": sum(json.loads(line)["seconds"] for line in lines)}


class _Clock:
    """Progress that tells nothing and keeps how long each task takes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, float] = {}

    @contextmanager
    def task(
        self,
        description: str,
        total: int,  # noqa: ARG002
        *,
        unit: str = "items",  # noqa: ARG002
        done: int = 0,  # noqa: ARG002
    ) -> Iterator[Advance]:
        """Time what is done inside."""
        _waiting(None, self.device)
        started = time.perf_counter()
        yield lambda _: None
        _waiting(None, self.device)
        self.spent[description] = time.perf_counter() - started


def _task(space: str) -> str:
    return f"pseudo pairs in {space}"


def _seconds(run: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """What `run` gives, and how long it takes."""
    started = time.perf_counter()
    result = _waiting(run(), device)
    return result, time.perf_counter() - started


def _synchronised(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    return lambda: _waiting(run(), device)


def _waiting(result: T, device: torch.device) -> T:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result


if __name__ == "__main__":
    main()
