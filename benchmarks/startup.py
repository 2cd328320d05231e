"""How long `mcr --help` takes, against an empty Python.

python -m benchmarks.startup
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.machine import machine, medians


def main() -> None:
    """Print the median times."""
    mcr = shutil.which("mcr", path=str(Path(sys.executable).parent)) or "mcr"
    commands = {
        "mcr --help": [mcr, "--help"],
        "mcr train --help": [mcr, "train", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    times = medians(
        {
            name: partial(subprocess.run, command, check=True, capture_output=True)
            for name, command in commands.items()
        },
        repeats=15,
    )
    print(machine())
    for name, seconds in times.items():
        print(f"{name:18} {seconds:.3f} s")


if __name__ == "__main__":
    main()
