"""Bridging real CLIP and CLAP text embeddings, 5-fold cross-validation over the names.

    python -m benchmarks.vggsound309 --data ../shared/data/vggsound309/texts.npz

Every fold goes through `mcr train` on the hub items of the other four, as a user would run
it, and is compared with centred orthogonal Procrustes on the same folds. The settings were
chosen on folds of the seeds 1 to 5; the figure is that of seed 0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import bridge
from features.memories.writing import save_memory

SETTINGS = Path(__file__).parents[1] / "examples" / "vggsound309" / "settings.toml"
FOLDS = 5


def main() -> None:
    """Print a table, one line a fold seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="texts.npz")
    parser.add_argument("--config", type=Path, default=SETTINGS)
    parser.add_argument("--fold-seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train-seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    data = np.load(arguments.data)
    print(f"R@1 of held-out names, mean of {FOLDS} folds: CLAP->CLIP, CLIP->CLAP, mean")
    for fold_seed in arguments.fold_seeds:
        order = np.random.default_rng(fold_seed).permutation(len(data["names"]))
        folds = np.array_split(order, FOLDS)
        closed = np.mean([procrustes(data, order, fold) for fold in folds], axis=0)
        print(f"folds {fold_seed}  procrustes, centred   {_figures(closed)}", flush=True)
        for seed in arguments.train_seeds:
            ours = [cross(data, order, fold, arguments.config, seed) for fold in folds]
            figures = _figures(np.mean(ours, axis=0))
            print(f"folds {fold_seed}  mcr train, seed {seed}     {figures}", flush=True)


def cross(
    data: NDArray[Any], order: NDArray[Any], fold: NDArray[Any], config: Path, seed: int
) -> NDArray[Any]:
    """R@1 in both directions on the names of `fold`, trained on the others by the command."""
    fit = np.setdiff1d(order, fold)
    with tempfile.TemporaryDirectory() as folder:
        for space in ("clip", "clap"):
            save_memory(
                Path(folder) / f"{space}.h5",
                data[space][fit],
                [str(name) for name in data["names"][fit]],
                space=space,
                modality="text",
            )
        out = Path(folder) / "bridge"
        command = [sys.executable, "-m", "cli", "train", "--out", str(out), "--json"]
        command += ["--hub", f"{folder}/clip.h5", "--hub", f"{folder}/clap.h5"]
        command += ["--config", str(config), "--seed", str(seed), "--device", "cpu"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert json.loads(done.stdout)["settings"]["seed"] == seed
        trained = bridge.load(out, device="cpu")
    clip, clap = (
        trained.project(torch.from_numpy(data[space][fold]).float(), space)
        for space in ("clip", "clap")
    )
    return recalls(clip, clap)


def procrustes(data: NDArray[Any], order: NDArray[Any], fold: NDArray[Any]) -> NDArray[Any]:
    """R@1 of the orthogonal map between the centred embeddings, fitted on the other names."""
    fit = np.setdiff1d(order, fold)
    clip, clap = (torch.from_numpy(data[space]).float() for space in ("clip", "clap"))
    clip, clap = clip - clip[fit].mean(dim=0), clap - clap[fit].mean(dim=0)
    u, _, vt = torch.linalg.svd(clip[fit].T @ clap[fit], full_matrices=False)
    unit = torch.nn.functional.normalize
    return recalls(unit(clip[fold] @ u, dim=1), unit(clap[fold] @ vt.T, dim=1))


def recalls(clip: Tensor, clap: Tensor) -> NDArray[Any]:
    """R@1 of CLAP->CLIP and of CLIP->CLAP."""
    scores, partner = clap @ clip.T, torch.arange(len(clip))
    hits = [(scores.argmax(dim=dim) == partner).float().mean() for dim in (1, 0)]
    return np.array([float(one) for one in hits])


def _figures(two: NDArray[Any]) -> str:
    return f"{two[0]:.3f}  {two[1]:.3f}  {two.mean():.3f}"


if __name__ == "__main__":
    main()
