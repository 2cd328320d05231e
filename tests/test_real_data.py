"""Real recordings, real handwriting, real published embeddings: the bars of `docs/results.md`.

Skips, saying so, where `../shared/data` is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.vggsound309 import FOLDS, SETTINGS, cross, procrustes

ROOT = Path(__file__).parents[1]
FEW_STEPS = "300"  # the example's default is 500


@pytest.mark.slow
@pytest.mark.real_data
def test_sounds_find_handwriting_as_well_as_with_true_pairs(
    digits_folder: Path, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    script = ROOT / "examples" / "digits" / "run.sh"
    done = subprocess.run(
        ["bash", str(script), str(digits_folder), str(tmp_path), FEW_STEPS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    unpaired, paired = (_evaluate(tmp_path, bridge) for bridge in ("bridge", "bridge-true-pairs"))
    bound = paired["forward"]["mean_average_precision"]
    assert bound > 0.8
    assert unpaired["forward"]["mean_average_precision"] >= 0.95 * bound
    hits = done.stdout.strip().splitlines()[-5:]
    assert [hit.split("\t")[2] for hit in hits].count("7") >= 4


def _evaluate(folder: Path, bridge: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli", "eval", "--json", "--bridge", str(folder / bridge)]
    command += ["--query", str(folder / "sounds-test.h5")]
    command += ["--gallery", str(folder / "images-test.h5")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
@pytest.mark.real_data
def test_published_embeddings_are_bridged_better_than_by_a_closed_form(
    vggsound_file: Path,
) -> None:
    data = np.load(vggsound_file)
    order = np.random.default_rng(0).permutation(len(data["names"]))
    folds = np.array_split(order, FOLDS)
    ours = np.mean([cross(data, order, fold, SETTINGS, seed=0) for fold in folds])
    closed = np.mean([procrustes(data, order, fold) for fold in folds])
    assert ours >= 0.706
    assert ours > closed
