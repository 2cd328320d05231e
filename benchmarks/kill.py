"""Killing `mcr extract` at random moments: the memory that comes out must not differ.

    python -m benchmarks.kill --kills 50

Real processes on small generated pictures. Each is killed with SIGKILL, mostly while it
embeds, sometimes while it starts; a few kills follow one another, then a run goes to its
end, and its memory is compared byte for byte with that of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from features import keypad
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import save_mini
from features.encoders.mini.towers import Tower

ROOT = Path(__file__).parents[1]
IMAGES, BATCH = 600, 8
IN_A_ROW = 3  # at most this many kills before a run may end
PATIENCE = 120  # seconds until a process that should end counts as alive


@dataclass
class Summary:
    """What happened; `differing`, `survivors` and `leftovers` should be empty."""

    kills: int = 0
    inside: int = 0  # of the kills, those that found the extraction running
    finished: int = 0
    differing: int = 0  # memories with other bytes than the uninterrupted run's
    survivors: int = 0  # kills after which a process of the run stayed alive
    leftovers: tuple[str, ...] = ()  # files beside the memories

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.inside} of them while embedding; {self.finished} runs "
            f"finished, {self.differing} memories differ, {self.survivors} processes outlived "
            f"their parent, {len(self.leftovers)} files left over"
        )


class _Run:
    """One `mcr extract`, workers included: they share its stderr, which ends with the last."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.lock = out.with_name(f"{out.name}.partial") / "lock"
        self.lock_before = self._lock_time()
        self.began = time.monotonic()
        command = [sys.executable, "-m", "cli", "extract", str(folder / "images")]
        command += ["--encoder", f"mini:{folder / 'encoder.safetensors'}", "--modality", "image"]
        command += ["--out", str(out), "--batch-size", str(BATCH), "--workers", "1"]
        command += ["--device", "cpu", "--resume"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def extracting(self) -> bool:
        """Whether this run has opened its unfinished output and not yet removed it."""
        return self._lock_time() not in (0, self.lock_before)

    def wait_until(self, extracting: bool) -> float:
        """Seconds from the start until it opened or removed its unfinished output, or ended."""
        while self.extracting() != extracting and self.process.poll() is None:
            time.sleep(0.002)
        return time.monotonic() - self.began

    def finish(self) -> float:
        """Seconds from the start until every process of the run had ended, well."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        if self.process.returncode != 0:
            raise RuntimeError(f"the extraction failed ({self.process.returncode}): {errors}")
        return time.monotonic() - self.began

    def kill(self) -> bool:
        """Kill the parent alone; whether its workers then ended as well."""
        self.process.kill()
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _lock_time(self) -> int:
        try:
            return self.lock.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def kill_and_resume(folder: Path, kills: int, seed: int) -> Summary:
    """Kill extractions in `folder`, which is made, until `kills` have hit a running process."""
    rng = random.Random(seed)
    _prepare(folder)
    whole = _Run(folder, folder / "whole" / "m.h5")
    starting = whole.wait_until(extracting=True)
    extracting = whole.wait_until(extracting=False) - starting
    whole.finish()
    expected = (folder / "whole" / "m.h5").read_bytes()
    out, summary, in_a_row = folder / "killed" / "m.h5", Summary(), IN_A_ROW
    while summary.kills < kills:
        left = rng.randint(1, in_a_row)
        while left and summary.kills < kills:
            left -= 1
            if not _kill_at_random(_Run(folder, out), rng, starting, extracting, summary):
                break
        if not out.exists() or out.with_name("m.h5.partial").exists():
            _Run(folder, out).finish()
        summary.finished += 1
        summary.differing += out.read_bytes() != expected
        summary.leftovers += tuple(p.name for p in out.parent.iterdir() if p != out)
        shutil.rmtree(out.parent)
    return summary


def _kill_at_random(
    run: _Run, rng: random.Random, starting: float, extracting: float, summary: Summary
) -> bool:
    """Kill `run` while it starts (one time in five) or embeds; False if it ended before."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, starting))
    else:
        run.wait_until(extracting=True)
        time.sleep(rng.uniform(0, extracting))
    if run.process.poll() is not None:
        run.finish()
        return False
    inside = run.extracting()
    summary.survivors += not run.kill()
    summary.kills += 1
    summary.inside += inside
    return True


def _prepare(folder: Path) -> None:
    """Pictures of keypad numbers and an encoder with random weights."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, number in enumerate(rng.choice(keypad.numbers("train"), IMAGES)):
        picture = Image.fromarray(keypad.image(str(number), "train", rng))
        picture.save(folder / "images" / f"{i:04d}.png")
    config = MiniConfig("tiny", ("image", "text"), dimension=32, width=32, layers=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        towers = {modality: Tower(modality, config) for modality in config.modalities}
    save_mini(folder / "encoder.safetensors", config, towers)


def main() -> None:
    """Print one line, and fail if a kill lost or changed anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        summary = kill_and_resume(Path(folder) / "work", arguments.kills, arguments.seed)
    print(summary)
    if summary.differing or summary.survivors or summary.leftovers:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
