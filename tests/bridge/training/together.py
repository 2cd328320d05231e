"""What `test_distributed.py` has several processes do: `torchrun ... -m this FOLDER OUT`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from bridge.config import TrainSettings
from bridge.losses.contrast import Keys, cross_modal, local_information, part_information
from bridge.losses.cwcl import cwcl
from bridge.losses.info_nce import info_nce
from bridge.losses.intra import intra_distance
from bridge.losses.soft_targets import soft_cross_entropy
from bridge.training.distributed import Ranks
from bridge.training.launch import joined
from bridge.training.layers import BatchNorm
from bridge.training.train import train
from features.memories.memory import Memory
from tests.bridge.conftest import SETTINGS, unit_rows

ROWS, OTHERS, PARTS, WIDTH, QUEUE = 13, 8, 3, 5, 6  # two processes share 13 unevenly
# Batches of 27 and 26 items, of 80. A bias in front of a BatchNorm has no say and a gradient of
# rounding errors alone, after which it strays; BatchNorm's running means have caught up with it
# only at the end of a longer training.
DEEP = replace(SETTINGS, batch=33, epochs=30, precision="fp32")
UNEVEN = replace(DEEP, projector="linear", epochs=4)
CASES: dict[str, TrainSettings] = {
    "cmcr": DEEP,
    "patience": replace(UNEVEN, patience=1, epochs=8, centring="modality", learning_rate=1e-2),
    "all pairs": replace(UNEVEN, pseudo_pairs="all"),
    "cwcl": replace(UNEVEN, objective="cwcl", cwcl_symmetric=True, cwcl_sharpness=2.0),
    "distil": replace(UNEVEN, objective="distil", distil_batch=19),
    "tcl": replace(
        UNEVEN, objective="tcl", tcl_queue=50, tcl_momentum=0.9, lmi_weight=0.5, lmi_from="both",
        itm_weight=0.5, mlm_weight=0.5, local_batch=9, fusion_width=8, fusion_heads=2,
    ),
    "ensemble": replace(UNEVEN, ensemble=2, epochs=2),
    "mixture": replace(UNEVEN, method="mixture", epochs=2),
}  # fmt: skip


def memories(folder: Path) -> tuple[list[Memory], list[Memory]]:
    """Hub and leaf memories of a small world with parts."""
    hub, leaf = ("text-left", "text-right"), ("audio", "image")
    return [Memory(folder / f"{name}.h5") for name in hub], [
        Memory(folder / f"{name}.h5") for name in leaf
    ]


def formulas(ranks: Ranks) -> dict[str, Tensor]:
    """Losses of a batch and their gradients, whole, in float64: each process gives its share."""
    share, other = ranks.share(ROWS), ranks.share(OTHERS)
    whole = {
        "left": unit_rows(ROWS, WIDTH, seed=1),
        "right": unit_rows(ROWS, WIDTH, seed=2),
        "parts": unit_rows(ROWS, PARTS, WIDTH, seed=3),
    }
    fewer, frozen = unit_rows(OTHERS, WIDTH, seed=4), unit_rows(ROWS, WIDTH, seed=5)
    targets = unit_rows(ROWS, OTHERS, seed=6).clamp(min=0)
    mask = torch.rand(ROWS, PARTS, generator=torch.Generator().manual_seed(7)) > 0.4
    items = torch.arange(ROWS)
    left_keys, right_keys = (
        Keys(unit_rows(ROWS, WIDTH, seed=seed), items, unit_rows(QUEUE, WIDTH, seed=seed + 1),
             items[3 : 3 + QUEUE])
        for seed in (8, 10)
    )  # fmt: skip
    norm = BatchNorm(WIDTH).double()
    norm.ranks = ranks
    norm.weight.data = torch.linspace(0.5, 2, WIDTH, dtype=torch.float64)
    terms = {
        "info_nce": lambda left, right, _: info_nce(left, right, temperature=0.1, share=share),
        "info_nce far apart": lambda left, right, _: info_nce(
            left, right, temperature=1e-3, share=share
        ),
        "intra": lambda left, right, _: intra_distance(left, right, share=share),
        "cwcl": lambda left, right, _: cwcl(left, right, frozen, temperature=0.1, share=share),
        "soft": lambda left, _, __: soft_cross_entropy(
            left, fewer[other.mine], targets[share.mine], temperature=0.1, shares=(share, other)
        ),
        "cma": lambda left, right, _: cross_modal(
            left, right, left_keys, right_keys, temperature=0.1, alpha=0.3, share=share
        ),
        "lmi": lambda left, _, parts: local_information(
            left, share.gathered(parts), mask, temperature=0.1, share=share
        ),
        "lmi parts": lambda _, right, parts: part_information(
            parts, mask, share.gathered(right), temperature=0.1, share=share
        ),
        "BatchNorm": lambda left, right, _: (norm(left) * right).pow(3).sum(),
    }
    found = {}
    for name, term in terms.items():
        mine = {key: rows[share.mine].clone().requires_grad_() for key, rows in whole.items()}
        part = term(*mine.values())
        part.backward()
        found[name] = ranks.total(part.detach())
        for key, rows in mine.items():
            given = torch.zeros_like(rows) if rows.grad is None else rows.grad
            found[f"{name}: {key}"] = share.gathered(given)
    ranks.add_up([one.grad for one in norm.parameters() if one.grad is not None])
    found |= {f"BatchNorm: {name}": one.grad for name, one in norm.named_parameters()}  # type: ignore[misc]
    return found | {f"BatchNorm: {name}": one for name, one in norm.named_buffers()}


def main(folder: Path, out: Path) -> None:
    """Train all cases, and keep what the formulas gave."""
    torch.set_num_threads(1)
    hub, leaf = memories(folder)
    with joined("cpu") as ranks:
        found = formulas(ranks)
        if ranks.first:
            save_file({name: one.contiguous() for name, one in found.items()}, out / "formulas")
        for name, settings in CASES.items():
            train(hub, leaf, out / name, settings, ranks=ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
