"""`python -m tests.fuzz READER --runs N`, or `--all --runs-each N`, or `--all --total N`.

Each reader runs in a process of its own, with bounded memory and a limit on the time of one input.
An input that a reader does not bear is kept, told, and the reader goes on. A million inputs, of
which fast readers get more, are `--all --total 1000000`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.target import Target

_HANGS = 60  # seconds for one input, by the clock; processor time is looked at before
_RESIDENT = 4096  # MiB of a process; atheris and torch take some of it
_MOST_FAILURES = 20  # of one reader, until it is given up


@dataclass
class Done:
    """What was done with one reader."""

    inputs: int = 0
    refused: int = 0
    failures: int = 0
    crashes: int = 0
    seconds: float = 0.0


def main() -> int:
    arguments = _arguments()
    if find_spec("atheris") is None:
        print("coverage-guided fuzzing needs atheris (Linux, Python 3.11 to 3.13): "
              "pip install atheris", file=sys.stderr)  # fmt: skip
        return 2
    from tests.fuzz.readers import every_target

    targets = every_target()
    if arguments.list:
        print("\n".join(targets))
        return 0
    chosen = [t for t in targets.values() if arguments.all or arguments.reader in (t.name, None)]
    if not (arguments.all or arguments.reader) or not chosen:
        print(f"there is no reader {arguments.reader}: name one of --list", file=sys.stderr)
        return 2
    chosen = [one for one in chosen if one.name >= arguments.start]
    weights = sum(one.weight for one in chosen)
    kept = Path(arguments.keep)
    table: dict[str, Done] = {}
    for number, target in enumerate(chosen, start=1):
        runs = arguments.runs_each or arguments.runs
        if arguments.total:
            runs = max(1, round(arguments.total * target.weight / weights))
        done = table[target.name] = fuzz(target, runs, arguments.seed, arguments.seconds, kept)
        print(f"[{number}/{len(chosen)}] {_row(target.name, done)}", flush=True)
    print(f"\n{_HEADER}")
    for name, done in table.items():
        print(_row(name, done))
    whole = Done(*(sum(getattr(one, key) for one in table.values())
                   for key in ("inputs", "refused", "failures", "crashes", "seconds")))  # fmt: skip
    print(_row("all", whole))
    return 1 if whole.failures else 0


def fuzz(target: Target, runs: int, seed: int, seconds: int, kept: Path) -> Done:
    """So many inputs of one reader, in as many processes as it takes."""
    done = Done()
    with tempfile.TemporaryDirectory(dir=_fast_folder(), prefix="fuzz-") as folder:
        place = Path(folder)
        while done.inputs < runs and max(done.failures, done.crashes) < _MOST_FAILURES:
            left = max(1, seconds - int(done.seconds)) if seconds else 0
            code, told = _process(target, place, runs - done.inputs, seed + done.crashes, left)
            progress = place / "done.json"
            if progress.exists():
                found = json.loads(progress.read_text())
                progress.unlink()
                done.refused += found["refused"]
                done.seconds += found["seconds"]
                done.inputs += found["inputs"]
            done.failures += _collect(target, place, kept)
            if code == 0:
                # The last hundred are not in the file.
                done.inputs = done.inputs if seconds else max(done.inputs, runs)
                break
            done.failures += 1
            done.crashes += 1
            done.inputs += 1
            _keep(target, place, kept, told)
    return done


def _process(target: Target, place: Path, runs: int, seed: int, seconds: int) -> tuple[int, str]:
    command = [
        sys.executable, "-m", "tests.fuzz.reader", target.name, str(place), f"-runs={runs}",
        f"-seed={seed + 1}", f"-timeout={_HANGS}", f"-rss_limit_mb={_RESIDENT}",
        f"-artifact_prefix={place}/", "-verbosity=0",
    ]  # fmt: skip
    if seconds:
        command.append(f"-max_total_time={seconds}")
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, env={**os.environ, **threads}, capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def _keep(target: Target, place: Path, kept: Path, told: str) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    names = [one for one in place.iterdir() if one.name.startswith(("crash-", "oom-", "timeout-"))]
    for one in names:
        shutil.move(one, kept / f"{target.name}-{one.name}")
    lines = [line for line in told.splitlines() if not line.startswith(("INFO", "WARNING"))]
    (kept / f"{target.name}-{time.time_ns()}.txt").write_text("\n".join(lines[-60:]))
    last = next((line for line in reversed(lines) if "Error" in line or "ERROR" in line), "")
    print(f"    {target.name}: {last[:200]}", flush=True)


def _collect(target: Target, place: Path, kept: Path) -> int:
    """Keep the inputs that raised what they should not have, and tell of them."""
    failed = list((place / "failed").glob("*.txt"))
    for told in failed:
        kept.mkdir(parents=True, exist_ok=True)
        for one in (told, told.with_suffix("")):
            shutil.move(one, kept / f"{target.name}-{one.name}")
        lines = (kept / f"{target.name}-{told.name}").read_text().strip().splitlines()
        print(f"    {target.name}: {told.stem}: {lines[-1][:200]}", flush=True)
    return len(failed)


def _fast_folder() -> str | None:
    """Where files are in memory."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


_HEADER = f"{'reader':34} {'inputs':>9} {'refused':>8} {'failed':>6} {'crashed':>7} {'a second':>8}"


def _row(name: str, done: Done) -> str:
    share = done.refused / max(1, done.inputs)
    rate = done.inputs / max(done.seconds, 1e-9)
    return f"{name:34} {done.inputs:9,} {share:8.0%} {done.failures:6} {done.crashes:7} {rate:8.0f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("reader", nargs="?", help="one reader by its name, see --list")
    parser.add_argument("--all", action="store_true", help="all readers, one after another")
    parser.add_argument("--list", action="store_true", help="the names of the readers")
    parser.add_argument("--runs", type=int, default=10_000, help="inputs of the reader")
    parser.add_argument("--runs-each", type=int, help="inputs of every reader")
    parser.add_argument("--total", type=int, help="inputs of all together, by their weights")
    parser.add_argument("--seconds", type=int, default=0, help="of every reader at most")
    parser.add_argument("--seed", type=int, default=0, help="of the changes")
    parser.add_argument("--start", default="", help="leave out readers before this name")
    parser.add_argument("--keep", default="fuzz-failures", help="folder for inputs that failed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
