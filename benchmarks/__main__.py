"""`python -m benchmarks NAME ...` runs a benchmark; without a name, lists them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run the benchmark that the first argument names."""
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        sys.exit(f"usage: python -m benchmarks {{{','.join(names)}}} ...")
    sys.argv = [f"benchmarks {sys.argv[1]}", *sys.argv[2:]]
    runpy.run_module(f"benchmarks.{Path(sys.argv[0].split()[1]).name}", run_name="__main__")


if __name__ == "__main__":
    main()
