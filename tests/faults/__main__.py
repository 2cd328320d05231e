"""`python -m tests.faults --count 500 --seed 0`: faults of every kind in turn, and a table."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.faults.fault import Fault, every_kind


def main() -> int:
    arguments = _arguments()
    kinds = [fault for fault in every_kind() if arguments.only in fault.name]
    if not kinds:
        print(f"no kind of fault has {arguments.only} in its name", file=sys.stderr)
        return 2
    done: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    started = time.monotonic()
    for number in range(arguments.count):
        fault = kinds[number % len(kinds)]
        said = _injected(fault, number, arguments.seed)
        done[fault.name] += 1
        failed[fault.name] += said is None
        print(f"{number + 1}/{arguments.count} {fault.name}: {said or 'FAILED'}", flush=True)
    print(f"\n{'fault':44} {'injected':>8} {'failed':>6}")
    for name in sorted(done):
        print(f"{name:44} {done[name]:8} {failed[name]:6}")
    seconds = time.monotonic() - started
    print(f"{'all':44} {done.total():8} {failed.total():6}   in {seconds:.0f} s")
    return 1 if failed.total() else 0


def _injected(fault: Fault, number: int, seed: int) -> str | None:
    """What was injected, or None where it was not borne; its folder is kept then."""
    folder = Path(tempfile.mkdtemp(prefix=f"{fault.name}-"))
    try:
        said = fault.inject(folder, random.Random(f"{seed}-{number}"))
    except Exception:
        traceback.print_exc()
        print(f"left for looking at: {folder}", file=sys.stderr)
        return None
    shutil.rmtree(folder)
    return said


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="how many faults")
    parser.add_argument("--seed", type=int, default=0, help="of the places and times")
    parser.add_argument("--only", default="", help="only kinds with this in their names")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
