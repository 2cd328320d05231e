"""A training step of C-MCR against its own matrix products, and the loop around it.

python -m benchmarks training
python -m benchmarks training --batch 40960 --repeats 1 --precisions fp32

The limit is `torch.mm` of the very products of the step (projectors and logits, forward and
backward) in the step's precision; a ratio of 0.75 there is a step at 0.75 of the machine's rate.
The plain step is the published recipe in a few lines of PyTorch, its B x B logits held whole.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bridge.training.steps
from benchmarks.machine import machine, medians
from benchmarks.report import parser, report
from bridge.config import TrainSettings
from bridge.training.run import Run
from bridge.training.training_set import FrozenRows, TrainingSet
from features.progress import SILENT

SPACES, ROLES = ("left", "right"), ("hub", "leaf")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PLAIN_MOST = 10_240  # pairs a batch, whose logits the plain step still holds


def main() -> None:
    """Print a table of steps for each precision, and one of the loop."""
    arguments = parser(__doc__, repeats=9)
    arguments.add_argument("--batch", type=int, default=4096)
    arguments.add_argument("--batches", type=int, default=8, help="that an epoch has")
    arguments.add_argument("--dimension", type=int, default=512)
    arguments.add_argument("--hidden", type=int, default=1024)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES))
    options = arguments.parse_args()
    print(machine())
    data = _clustered(options.batch * options.batches, options.dimension, options.device)
    for precision in options.precisions:
        _steps(data, precision, options)
        _loop(data, precision, options)


def _steps(data: TrainingSet, precision: str, options: argparse.Namespace) -> None:
    run = _run(data, precision, options, None)
    rows = next(iter(run.steps_of.draw(run.order, options.batches)))
    run._set_train(True)
    candidates: dict[str, Callable[[], object]] = {
        "mcr-bridge": _waiting(lambda: run._step(rows), options.device),
        "its products, torch.mm": _waiting(_Products(precision, options), options.device),
    }
    extra = _memory(candidates["mcr-bridge"])
    if options.batch <= PLAIN_MOST:
        candidates["plain step"] = _waiting(_Plain(data, precision, options), options.device)
    seconds = medians(candidates, repeats=options.repeats)
    limit = seconds["its products, torch.mm"]
    report(
        f"Training step, {precision}",
        seconds,
        ours="mcr-bridge",
        sizes=_sizes(options),
        notes={
            "of the rate of products": {name: f"{limit / s:.2f}" for name, s in seconds.items()},
            "peak extra memory": {"mcr-bridge": f"{extra / 2**20:,.0f} MiB"},
        },
        json_file=options.json,
    )


def _loop(data: TrainingSet, precision: str, options: argparse.Namespace) -> None:
    """An epoch with its log and checkpoint, and how much of it is not the step itself."""
    spent = {"step": 0.0, "noise": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        run = _run(data, precision, options, Path(folder))
        run._step = _timed(run._step, spent, "step", options.device)  # type: ignore[method-assign]
        noisy = bridge.training.steps._noisy
        bridge.training.steps._noisy = _timed(noisy, spent, "noise", options.device)
        try:
            started = time.perf_counter()
            run.fit(SILENT)
            run._save()
            whole = time.perf_counter() - started
        finally:
            bridge.training.steps._noisy = noisy
    steps = spent["step"] - spent["noise"]
    seconds = {
        "all": whole,
        "steps without rows and noise": steps,
        "rows and noise": spent["noise"],
        "log, held-out scores, checkpoint": whole - spent["step"],
    }
    report(
        f"Epoch of {options.batches} steps, {precision}",
        seconds,
        ours="all",
        sizes=_sizes(options),
        notes={"outside the step": {"all": f"{1 - steps / whole:.1%}"}},
        json_file=options.json,
    )


class _Products:
    """`torch.mm` of every product of a step, forward and backward."""

    def __init__(self, precision: str, options: argparse.Namespace) -> None:
        make = torch.Generator(options.device).manual_seed(0)

        def table(n: int, m: int) -> Tensor:
            made = torch.randn(n, m, generator=make, device=options.device)
            return made.to(DTYPES[precision])

        n, d, h = options.batch, options.dimension, options.hidden
        self.rows, self.hidden = table(2 * n, d), table(2 * n, h)
        self.first, self.second = table(h, d), table(d, h)
        self.side, self.logits = table(n, d), table(n, n) if n <= PLAIN_MOST else None

    def __call__(self) -> None:
        for _ in SPACES:
            torch.mm(self.rows, self.first.T)
            torch.mm(self.hidden, self.second.T)
            torch.mm(self.rows, self.second)
            torch.mm(self.rows.T, self.hidden)
            torch.mm(self.hidden.T, self.rows)
        for _ in ROLES:
            if self.logits is not None:
                torch.mm(self.side, self.side.T)
                torch.mm(self.logits, self.side)
                torch.mm(self.logits.T, self.side)
                continue
            for part in torch.split(
                self.side, 2**24 // len(self.side)
            ):  # more logits than are held
                some = torch.mm(part, self.side.T)
                torch.mm(some, self.side)
                torch.mm(some.T, part)


class _Plain:
    """The published recipe as it is written down."""

    def __init__(self, data: TrainingSet, precision: str, options: argparse.Namespace) -> None:
        d, h = options.dimension, options.hidden
        self.data, self.batch, self.bf16 = data, options.batch, precision == "bf16"
        self.device = options.device
        self.projectors = nn.ModuleDict(
            {
                space: nn.Sequential(
                    nn.Linear(d, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, d),
                    nn.BatchNorm1d(d),
                )
                for space in SPACES
            }
        ).to(self.device)  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.projectors.parameters(), lr=1e-3)

    def __call__(self) -> None:
        rows = torch.randperm(len(self.data))[: self.batch].to(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            unit = {space: self._projected(space, rows) for space in SPACES}
            left, right = unit.values()
            loss = sum(_contrast(left[i], right[i]) for i in (0, 1))
            loss = loss + 0.05 * sum((hub - leaf).norm(dim=1).mean() for hub, leaf in unit.values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _projected(self, space: str, rows: Tensor) -> tuple[Tensor, ...]:
        noisy = []
        for table in self.data.rows[space].values():
            taken = table[rows]
            noisy.append(F.normalize(taken + 0.004**0.5 * torch.randn_like(taken), dim=1))
        projected: Tensor = self.projectors[space](torch.cat(noisy))
        return F.normalize(projected, dim=1).chunk(2)


def _contrast(left: Tensor, right: Tensor) -> Tensor:
    logits, partner = left @ right.T / 0.01, torch.arange(len(left), device=left.device)
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


def _run(data: TrainingSet, precision: str, options: argparse.Namespace, out: Path | None) -> Run:
    settings = TrainSettings(
        batch=options.batch,
        dimension=options.dimension,
        hidden=options.hidden,
        epochs=1,
        precision=precision,
    )
    return Run(out, settings, data, {}, torch.device(options.device))


def _clustered(items: int, dimension: int, device: str) -> TrainingSet:
    """Rows around 1,000 centres that the spaces share."""
    make = torch.Generator(device).manual_seed(0)

    def noise(n: int) -> Tensor:
        return torch.randn(n, dimension, generator=make, device=device)

    own = torch.randint(1000, (items,), generator=make, device=device)
    shared = F.normalize(noise(1000), dim=1)[own]
    rows = {
        space: {role: F.normalize(shared + 0.02 * noise(items), dim=1) for role in ROLES}
        for space in SPACES
    }
    frozen = FrozenRows(
        hub={space: rows[space]["hub"] for space in SPACES},
        held_out={space: rows[space]["hub"][: max(2, items // 20)] for space in SPACES},
        leaf={space: rows[space]["leaf"] for space in SPACES},
        modalities={
            "left": {"hub": "text", "leaf": "audio"},
            "right": {"hub": "text", "leaf": "image"},
        },
    )
    return TrainingSet(rows, frozen)


def _waiting(function: Callable[[], object], device: str) -> Callable[[], object]:
    def timed() -> None:
        function()
        if device == "cuda":
            torch.cuda.synchronize()

    return timed


def _timed(
    function: Callable[..., Any], spent: dict[str, float], name: str, device: str
) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments)
        if device == "cuda":
            torch.cuda.synchronize()
        spent[name] += time.perf_counter() - started
        return result

    return timed


def _memory(run: Callable[[], object]) -> int:
    """Bytes that this process holds at most while it runs, beyond what it holds before; Linux."""
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not forget.exists():
        return 0

    def held(field: str) -> int:
        (line,) = [line for line in status.read_text().splitlines() if line.startswith(field)]
        return int(line.split()[1]) * 1024

    forget.write_text("5")  # the peak so far
    before = held("VmRSS")
    run()
    return held("VmHWM") - before


def _sizes(options: argparse.Namespace) -> dict[str, object]:
    d = options.dimension
    return {"batch": options.batch, "projectors": f"{d}-{options.hidden}-{d}"}


if __name__ == "__main__":
    main()
