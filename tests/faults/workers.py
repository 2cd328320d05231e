"""Files that end the process which decodes them, or never come to an end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from features.memories.memory import Memory
from tests.faults.fault import Fault
from tests.faults.forked import ROOT, Ended

ITEMS, BATCH = 120, 40
SECONDS = 2.0
REASONS = {
    "crash": "the decoding process died on it (signal 11, Segmentation fault)",
    "killed": "the decoding process died on it (signal 9, out of memory?)",
    "leaves": "the decoding process died on it (exit code 3)",
    "greedy": "decoding it needs more memory than there is",
    "hangs": f"decoding it took longer than {SECONDS:g} s (--item-timeout)",
}


def inject(deed: str, workers: int, folder: Path, generator: random.Random) -> str:
    """Two files at random places that do it, among others; the others are embedded."""
    bad = sorted(generator.sample(range(ITEMS), 2))
    names = [f"{i:03}.png" for i in range(ITEMS)]
    for i, name in enumerate(names):
        (folder / name).write_text(deed if i in bad else f"{i}")
    (folder / "list.txt").write_text("\n".join(names))
    ended = _extract(folder, "with.h5", "list.txt", workers)
    assert ended.code == 3, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    listed = (folder / "with.failures.jsonl").read_text().splitlines()
    failed = {one["id"]: one["reason"] for one in map(json.loads, listed)}
    assert failed == {names[i]: REASONS[deed] for i in bad}, failed
    good = [name for i, name in enumerate(names) if i not in bad]
    memory = Memory(folder / "with.h5")
    assert list(memory.ids) == good
    rows = [np.random.default_rng(list(str(int(name[:3])).encode())).normal(size=8)
            for name in good]  # fmt: skip
    wanted = np.array([row / np.linalg.norm(row) for row in rows])
    assert np.abs(memory.embeddings - wanted).max() < 1e-3
    left = {path.name for path in folder.iterdir()} - {*names, "list.txt"}
    assert left == {"with.h5", "with.failures.jsonl"}, left
    return f"items {bad[0]} and {bad[1]} of {ITEMS}: {REASONS[deed]}"


def _extract(folder: Path, out: str, source: str, workers: int) -> Ended:
    command = [
        sys.executable, "-m", "cli", "extract", folder / source, "-e", "tests.faults.hostile:load",
        "-m", "image", "-o", folder / out, "--batch-size", BATCH, "--workers", workers,
        "--item-timeout", SECONDS, "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(
        [str(one) for one in command], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


FAULTS = [
    Fault("extract", f"file {deed} {workers} workers", partial(inject, deed, workers))
    for deed in REASONS
    for workers in (1, 2)
]
