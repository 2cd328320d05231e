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

from tests.faults.fault import Fault, MissedError, every_kind


def main() -> int:
    arguments = _arguments()
    kinds = [fault for fault in every_kind() if arguments.only in fault.name]
    if not kinds:
        print(f"no kind of fault has {arguments.only} in its name", file=sys.stderr)
        return 2
    counts = {how: Counter[str]() for how in ("injected", "failed", "missed")}
    started = time.monotonic()
    number = 0
    # Those that missed are made up for, unless no kind hits anything.
    while (done := counts["injected"].total()) < arguments.count and number < 4 * arguments.count:
        fault = kinds[number % len(kinds)]
        how, said = _inject(fault, random.Random(f"{arguments.seed}-{number}"))
        for one in {"failed": ("injected", "failed")}.get(how, (how,)):
            counts[one][fault.name] += 1
        print(f"{done + 1}/{arguments.count} {fault.name}: {how}: {said}", flush=True)
        number += 1
    print(f"\n{'fault':44}" + "".join(f"{how:>10}" for how in counts))
    for name in sorted({fault.name for fault in kinds[:number]}):
        print(f"{name:44}" + "".join(f"{count[name]:10}" for count in counts.values()))
    totals = "".join(f"{count.total():10}" for count in counts.values())
    print(f"{'all':44}{totals}   in {time.monotonic() - started:.0f} s")
    return 1 if counts["failed"].total() or done < arguments.count else 0


def _inject(fault: Fault, rng: random.Random) -> tuple[str, str]:
    """How it went, and what was done; the folder is kept where it was not borne."""
    folder = Path(tempfile.mkdtemp(prefix=f"{fault.name}-"))
    try:
        how = "injected", fault.inject(folder, rng)
    except MissedError as missed:
        how = "missed", str(missed)
    except Exception as error:
        traceback.print_exc()
        print(f"left for looking at: {folder}", file=sys.stderr)
        return "failed", str(error).partition("\n")[0]
    shutil.rmtree(folder)
    return how


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="how many faults to inject")
    parser.add_argument("--seed", type=int, default=0, help="of the places and times")
    parser.add_argument("--only", default="", help="only kinds with this in their names")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
